package realtime

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/realtime-go/realtime/internal/engine"
)

// shelf is a stream in which a message is kept.
type shelf struct {
	stream string
	target Target // for whom it is there
	keep   Retention
	user   string // whose inbox it is
}

// shelve finds out where a message is kept, and returns whom else it is for.
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
	if !ib.traits.keeps() || validUser(id) != nil || slices.Contains(t.ExceptUsers, id) {
		return false, nil
	}
	if u := x.users.find(id); u != nil {
		x.users.leave(u)
		return true, nil
	}
	return ib.exists(ctx, id)
}

// traitsOf returns what is special about a room: as it was when its first member came, or would be
// now.
func (x *index) traitsOf(name string) traits {
	if r, ok := x.rooms.index.get(name); ok {
		return r.traits
	}
	return x.traits(name)
}

// publish gives a message to its receivers. What is kept goes to the broker, a part for each
// stream, and comes back by Deliver; the rest is delivered from here, or by a broker that serves
// other processes too. If it returns an error, some parts may have been taken.
func (x *index) publish(ctx context.Context, p Publication) (Result, error) {
	if !x.kept || p.Message.TTL < 0 {
		return x.pass(ctx, p)
	}
	kept, others, err := x.shelve(ctx, p.Target)
	if err != nil {
		return Result{}, err
	}
	if len(kept) == 0 {
		return x.pass(ctx, p)
	}
	p.own()
	rest := p
	rest.Target = others
	f := &flight{result: Result{Local: x.catcher.carrier.local}}
	if len(kept) > 1 || !rest.Target.nobody() {
		f.seen = make(map[*engine.Link]struct{})
		if p.Message.ID == "" { // by which a client knows that it is the same
			p.Message.ID = uuid.NewString()
			rest.Message.ID = p.Message.ID
		}
	}
	for i := range kept {
		before := f.result
		if err := x.keep(ctx, p, &kept[i], f); err != nil {
			return before, err // it may still be delivered, which f is for
		}
	}
	if rest.Target.nobody() {
		return f.result, nil
	}
	f.result.Position = Position{} // it is not the only one
	rest.flight = f
	before := f.result
	res, err := x.pass(ctx, rest)
	if err != nil {
		return before, err
	}
	f.result.sum(res)
	return f.result, nil
}

// keep publishes the part of a message that is kept in one stream.
func (x *index) keep(ctx context.Context, p Publication, s *shelf, f *flight) error {
	except := p.Target
	p.Stream, p.Keep, p.Target, p.flight = s.stream, s.keep, s.target, f
	p.Target.ExceptConns, p.Target.ExceptUsers = except.ExceptConns, except.ExceptUsers
	f.online = false
	out, err := x.catcher.carrier.publish(ctx, p)
	if err != nil {
		return err
	}
	f.count(out)
	if s.user != "" && !f.online && !out.Duplicate {
		f.result.Offline++
		x.users.inboxes.kept(ctx, s.user, &p.Message)
	}
	return nil
}

// pass delivers what is not kept.
func (x *index) pass(ctx context.Context, p Publication) (Result, error) {
	if x.catcher.carrier.local {
		return x.deliver(&p), nil
	}
	p.own() // it is the caller's, who may use it again
	_, err := x.catcher.carrier.publish(ctx, p)
	return Result{}, err
}

// history returns a part of what a room has kept.
func (x *index) history(ctx context.Context, room string, q Query) (Page, error) {
	t := x.traitsOf(room)
	if !t.keeps() {
		return Page{}, ErrNoHistory
	}
	return x.catcher.carrier.read(ctx, RoomStream(room), q)
}
