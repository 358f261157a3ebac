package realtime

import (
	"context"
	"fmt"
	"slices"

	"github.com/realtime-go/realtime/broker"
)

// maxInboxes is how many inboxes a message is put into at once: their streams are held meanwhile.
const maxInboxes = 256

// shelf is what becomes of one part of a message.
type shelf struct {
	user   string // whose inbox it is put into
	flight flight // may be still up after an error
	missed bool   // it was kept for a user who has no connection
}

// shelve takes a message apart, if some of it is kept: what is not kept comes first, rooms come
// before inboxes.
//
// Members of a room see one order because of this. What is not kept is not ordered by a stream but
// by the locks of its rooms, and is delivered while the streams of the others are held: a
// connection that is in both kinds of rooms gets the message at its place in the plain ones, and
// nothing else comes in between in the kept ones.
func (x *publisher) shelve(ctx context.Context, t broker.Target) (parts []broker.Publication, err error) {
	var rooms, users []string // of which it is kept
	for _, name := range sorted(t.Rooms) {
		if own := x.m.policyOf(name); own.Keeps() {
			rooms = append(rooms, name)
			parts = append(parts, broker.Publication{
				Stream: broker.RoomStream(name), Target: broker.Target{Rooms: []string{name}}, Keep: own.Keep,
			})
		}
	}
	for _, id := range sorted(t.Users) {
		keeps, err := x.keepsFor(ctx, id, &t)
		if err != nil {
			return nil, err
		}
		if keeps {
			users = append(users, id)
			keep := x.m.inboxes.policy.Keep
			parts = append(parts, broker.Publication{Stream: broker.InboxStream(id), Target: broker.Target{Users: []string{id}}, Keep: keep})
		}
	}
	if len(parts) == 0 {
		return nil, nil
	}
	t.Rooms, t.Users = others(t.Rooms, rooms), others(t.Users, users)
	if nobody(&t) {
		return parts, nil
	}
	return slices.Insert(parts, 0, broker.Publication{Target: cloneTarget(t)}), nil
}

// others returns names without some of them.
func others(names, without []string) []string {
	switch {
	case len(without) == 0:
		return names
	case len(without) == len(names):
		return nil
	}
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return slices.Contains(without, name)
	})
}

// keepsFor reports whether a message is kept for a user.
func (x *publisher) keepsFor(ctx context.Context, id string, t *broker.Target) (bool, error) {
	ib := x.m.inboxes
	if !ib.policy.Keeps() || slices.Contains(t.ExceptUsers, id) {
		return false, nil
	}
	if u := x.m.users.find(id); u != nil {
		x.m.users.leave(u)
		return true, nil
	}
	return ib.exists(ctx, id)
}

// put publishes the parts of a message and adds up what became of them. had, if there is more than
// one part, is who has had it.
func (x *publisher) put(
	ctx context.Context, p *broker.Publication, parts []broker.Publication, had *audience,
) (res Result, err error) {
	size := p.Size()
	for i := range parts { // before anything else would go for it
		if keep := &parts[i].Keep; keep.Bytes > 0 && size > keep.Bytes {
			return res, fmt.Errorf("%w to be kept: %d bytes, limit %d", ErrTooLarge, size, keep.Bytes)
		}
	}
	res.Local = x.m.broker.Local()
	shelves := x.pack(p, parts, had)
	for done := 0; done < len(parts) && err == nil; {
		n := atOnce(shelves[done:])
		var took []broker.Published
		took, err = x.m.broker.Publish(ctx, parts[done:done+n]...)
		for i := range took {
			shelves[done+i].count(&res, &took[i])
		}
		if len(parts) == 1 && err == nil {
			res.Position = Position(took[0].Position)
		}
		done += n
	}
	if err == nil && res.Full == len(parts) {
		err = errShare
	}
	for i := range shelves {
		if s := &shelves[i]; s.missed {
			x.m.inboxes.kept(ctx, s.user, &p.Message)
		}
	}
	return res, err
}

// pack fills in what the parts of a message have in common.
func (x *publisher) pack(p *broker.Publication, parts []broker.Publication, had *audience) []shelf {
	shelves := make([]shelf, len(parts))
	for i := range parts {
		s, pub := &shelves[i], &parts[i]
		s.flight = flight{result: Result{Local: x.m.broker.Local()}, audience: had}
		if user, inbox := broker.StreamUser(pub.Stream); inbox {
			s.user = user
			pub.Shared = p.Message.From() != broker.Sender{}
		}
		pub.Message, pub.Union, pub.Origin = p.Message, p.Union, &s.flight
		pub.Target.ExceptConns, pub.Target.ExceptUsers = p.Target.ExceptConns, p.Target.ExceptUsers
	}
	return shelves
}

// atOnce returns how many parts are published at once: all but inboxes beyond the bound, between
// which there is no order.
func atOnce(shelves []shelf) int {
	n := 0
	for n < len(shelves) && shelves[n].user == "" {
		n++
	}
	return min(len(shelves), n+maxInboxes)
}

// count adds what became of one part of a message.
func (s *shelf) count(r *Result, took *broker.Published) {
	r.sum(s.flight.result)
	switch {
	case took.Duplicate:
		r.Duplicate = true
	case took.Full:
		r.Full++
	case took.Position.Epoch != "":
		r.Kept++
		if s.missed = s.user != "" && !s.flight.online; s.missed {
			r.Offline++
		}
	}
}

// flight is what a publication leaves behind in the process that sends it.
type flight struct {
	result   Result
	online   bool      // the user whose inbox it is has a connection
	audience *audience // who has had it, if it has several parts
}
