package realtime

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/realtime-go/realtime/internal/engine"
)

// keptIn returns the rooms of a target that keep history.
func (x *index) keptIn(t *Target) (rooms []string) {
	if !x.kept {
		return nil
	}
	for _, name := range t.Rooms {
		if t := x.traitsOf(name); t.keeps() {
			rooms = append(rooms, name)
		}
	}
	return rooms
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
	var kept []string
	if p.Message.TTL >= 0 {
		kept = x.keptIn(&p.Target)
	}
	if len(kept) == 0 {
		return x.pass(ctx, p)
	}
	p.own()
	rest := p
	rest.Target.Rooms = slices.DeleteFunc(slices.Clone(p.Target.Rooms), func(name string) bool {
		return slices.Contains(kept, name)
	})
	f := &flight{result: Result{Local: true}}
	if kept = sorted(kept); len(kept) > 1 || !rest.Target.nobody() {
		f.seen = make(map[*engine.Link]struct{})
		if p.Message.ID == "" { // by which a client knows that it is the same
			p.Message.ID = uuid.NewString()
			rest.Message.ID = p.Message.ID
		}
	}
	for _, name := range kept {
		out, err := x.keep(ctx, p, name, f)
		if err != nil {
			return f.result, err
		}
		f.count(out)
	}
	if rest.Target.nobody() {
		return f.result, nil
	}
	f.result.Position = Position{} // it is not the only one
	rest.flight = f
	res, err := x.pass(ctx, rest)
	f.result.sum(res)
	return f.result, err
}

// keep publishes the part of a message that is for a room that keeps it.
func (x *index) keep(ctx context.Context, p Publication, room string, f *flight) (Published, error) {
	p.Stream, p.flight = RoomStream(room), f
	p.Keep = x.traitsOf(room).keep
	p.Target = Target{Rooms: []string{room}, ExceptConns: p.Target.ExceptConns, ExceptUsers: p.Target.ExceptUsers}
	return x.catcher.carrier.publish(ctx, p)
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
