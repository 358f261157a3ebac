package realtime

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// maxAtOnce is how many inboxes a message is put into at the same time.
const maxAtOnce = 64

// shelf is a stream in which a message is kept, and what became of it there.
type shelf struct {
	stream string
	target Target // for whom it is there
	keep   Retention
	user   string // whose inbox it is

	flight flight // may be still up after an error
	took   Published
	done   bool
	err    error
}

// shelve finds out where a message is kept, rooms first, and returns whom else it is for.
func (x *index) shelve(ctx context.Context, t Target) (kept []shelf, rest Target, err error) {
	var rooms, users []string // of which it is kept
	for _, name := range sorted(t.Rooms) {
		if own := x.traitsOf(name); own.keeps() {
			rooms = append(rooms, name)
			kept = append(kept, shelf{stream: RoomStream(name), target: ToRoom(name), keep: own.keep})
		}
	}
	for _, id := range sorted(t.Users) {
		keeps, err := x.keepsFor(ctx, id, &t)
		if err != nil {
			return nil, t, err
		}
		if keeps {
			users = append(users, id)
			keep := x.users.inboxes.traits.keep
			kept = append(kept, shelf{stream: InboxStream(id), target: ToUser(id), keep: keep, user: id})
		}
	}
	rest = t
	rest.Rooms, rest.Users = others(t.Rooms, rooms), others(t.Users, users)
	return kept, rest, nil
}

// others returns names without some of them.
func others(names, without []string) []string {
	if len(without) == 0 {
		return names
	}
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return slices.Contains(without, name)
	})
}

// keepsFor reports whether a message is kept for a user.
func (x *index) keepsFor(ctx context.Context, id string, t *Target) (bool, error) {
	ib := x.users.inboxes
	if !ib.traits.keeps() || slices.Contains(t.ExceptUsers, id) {
		return false, nil
	}
	if u := x.users.find(id); u != nil {
		x.users.leave(u)
		return true, nil
	}
	return ib.exists(ctx, id)
}

// keepAll publishes the parts of a message that are kept, and adds them up. had, if there is more
// than one part, is who has had it.
func (x *index) keepAll(ctx context.Context, p *Publication, kept []shelf, had *audience) (res Result, err error) {
	for i := range kept {
		kept[i].flight = flight{result: Result{Local: x.catcher.carrier.local}, audience: had}
	}
	x.putAll(ctx, p, kept)
	res.Local = x.catcher.carrier.local
	for i := range kept {
		s := &kept[i]
		if s.done {
			s.count(&res)
			x.tellOffline(ctx, p, s)
		} else if err == nil {
			err = s.err
		}
	}
	return res, err
}

// putAll publishes to rooms one after another, in one order for whoever is in several, and to
// inboxes at the same time: a broker with a disk writes many as quickly as one.
func (x *index) putAll(ctx context.Context, p *Publication, kept []shelf) {
	for len(kept) > 0 && (kept[0].user == "" || len(kept) == 1) {
		if !x.put(ctx, p, &kept[0]) {
			return
		}
		kept = kept[1:]
	}
	if len(kept) > 0 {
		x.putTogether(ctx, p, kept)
	}
}

func (x *index) putTogether(ctx context.Context, p *Publication, kept []shelf) {
	var next atomic.Int64
	var failed atomic.Bool
	shared := *p
	work := func() {
		for !failed.Load() {
			i := int(next.Add(1)) - 1
			if i >= len(kept) {
				return
			}
			if !x.put(ctx, &shared, &kept[i]) {
				failed.Store(true)
			}
		}
	}
	var helpers sync.WaitGroup
	for range min(len(kept), maxAtOnce) - 1 {
		helpers.Go(work)
	}
	work()
	helpers.Wait()
}

// put publishes the part of a message that is kept in one stream.
func (x *index) put(ctx context.Context, p *Publication, s *shelf) (ok bool) {
	part := *p
	part.Stream, part.Keep, part.Target, part.flight = s.stream, s.keep, s.target, &s.flight
	part.Target.ExceptConns, part.Target.ExceptUsers = p.Target.ExceptConns, p.Target.ExceptUsers
	if size := part.Size(); s.keep.Bytes > 0 && size > s.keep.Bytes { // and everything else would go
		s.err = fmt.Errorf("%w to be kept: %d bytes, limit %d", ErrTooLarge, size, s.keep.Bytes)
		return false
	}
	s.took, s.err = x.catcher.carrier.publish(ctx, part)
	s.done = s.err == nil
	return s.done
}

// count adds what became of a message in one stream.
func (s *shelf) count(r *Result) {
	r.sum(s.flight.result)
	if s.took.Duplicate {
		r.Duplicate = true
	} else {
		r.Kept++
	}
	r.Position = Position{}
	if r.Kept <= 1 {
		r.Position = s.took.Position
	}
	if s.offline() {
		r.Offline++
	}
}

// offline reports whether a message was kept for a user who has no connection.
func (s *shelf) offline() bool { return s.user != "" && !s.flight.online && !s.took.Duplicate }

// tellOffline tells the application.
func (x *index) tellOffline(ctx context.Context, p *Publication, s *shelf) {
	if s.offline() {
		x.users.inboxes.kept(ctx, s.user, &p.Message)
	}
}
