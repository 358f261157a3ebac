package realtime

import (
	"bytes"
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/realtime-go/realtime/broker"
)

// publisher gives messages to the broker where something of them is kept, and to the broadcaster.
type publisher struct{ m *Manager }

// publish gives a message to its receivers. If some of it is kept, all of it goes through the
// broker, a part for each stream, and comes back by Deliver. Otherwise it is delivered from here,
// or by a broker that serves other processes too. If it returns an error, some parts may have been
// taken.
func (x *publisher) publish(ctx context.Context, p broker.Publication) (Result, error) {
	if !x.m.opts.keeps() || p.Message.TTL < 0 {
		return x.pass(ctx, p)
	}
	parts, err := x.shelve(ctx, p.Target)
	if err != nil {
		return Result{}, err
	}
	if len(parts) == 0 {
		return x.pass(ctx, p)
	}
	own(&p)
	var had *audience
	if len(parts) > 1 {
		had, p.Union = new(audience), true
		if p.Message.ID == "" { // by which a client knows that it is the same
			p.Message.ID = uuid.NewString()
		}
	}
	return x.put(ctx, &p, parts, had)
}

// pass delivers what is not kept.
func (x *publisher) pass(ctx context.Context, p broker.Publication) (Result, error) {
	if x.m.broker.Local() {
		return x.m.broadcast.deliver(&p), nil
	}
	own(&p) // it is the caller's, who may use it again
	p.Target = cloneTarget(p.Target)
	_, err := x.m.broker.Publish(ctx, p)
	return Result{}, err
}

// history returns a part of what a room has kept.
func (x *publisher) history(ctx context.Context, room string, q broker.Query) (broker.Page, error) {
	p := x.m.policyOf(room)
	if !p.Keeps() {
		return broker.Page{}, ErrNoHistory
	}
	return x.m.broker.Read(ctx, broker.RoomStream(room), q)
}

// own makes the publication independent of what the caller of Send may use again.
func own(p *broker.Publication) {
	m := &p.Message
	m.Content, m.Binary = bytes.Clone(m.Content), bytes.Clone(m.Binary)
	t := &p.Target
	t.ExceptConns, t.ExceptUsers = slices.Clone(t.ExceptConns), slices.Clone(t.ExceptUsers)
}
