package realtime

import (
	"context"

	"github.com/google/uuid"
)

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
	var had *audience
	if len(kept) > 1 || !others.nobody() {
		had, p.Union = new(audience), true
		if p.Message.ID == "" { // by which a client knows that it is the same
			p.Message.ID = uuid.NewString()
		}
	}
	res, err := x.keepAll(ctx, &p, kept, had)
	if err != nil || others.nobody() {
		return res, err
	}
	res.Position = Position{} // it is not the only one
	p.Target, p.flight = others, &flight{audience: had}
	rest, err := x.pass(ctx, p)
	if err == nil {
		res.sum(rest)
	}
	return res, err
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
