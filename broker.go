package realtime

import (
	"context"
	"slices"
)

// Publication is one message on its way to its receivers. It is plain data, so that
// a [Broker] can carry it to other processes. What it refers to must not be changed.
type Publication struct {
	Target  Target  `json:"target"`
	Message Message `json:"message"`
}

// Broker carries publications between the Managers of one application. It is what
// makes several processes one: with it, Send reaches the connections of all of them.
//
// A Broker delivers every publication to every Sink that is open, the publisher's
// own too, and those of one publisher in the order of its Publish calls. It carries
// messages only: announcements, rosters, counts and statistics are each process's
// own. Managers of one application must have the same Options.
type Broker interface {
	// Open starts delivery to s, once, before any Publish. New calls it in a
	// goroutine of its own, and ctx ends when the Manager closes.
	Open(ctx context.Context, s Sink) error
	// Publish hands on p. It may block until ctx ends. Safe for concurrent use.
	Publish(ctx context.Context, p Publication) error
	// Close ends delivery: when it has returned, no Deliver is under way. Close and
	// Shutdown of the Manager wait for it.
	Close(ctx context.Context) error
}

// Sink is where a Broker delivers: a Manager.
type Sink interface {
	// Deliver gives p to the connections of this process. It never blocks on a
	// peer. Calls for the same room must come one at a time, in the room's order.
	Deliver(p Publication)
}

// carrier is a broker with the Manager that uses it.
type carrier struct {
	broker Broker
	ready  chan struct{} // closed when Open has returned
	err    error         // of Open, once ready
}

func newCarrier(b Broker) *carrier { return &carrier{broker: b, ready: make(chan struct{})} }

// run keeps the broker open until ctx ends.
func (k *carrier) run(ctx context.Context, s Sink) {
	k.err = k.broker.Open(ctx, s)
	close(k.ready)
	<-ctx.Done()
	if k.err == nil {
		_ = k.broker.Close(context.WithoutCancel(ctx))
	}
}

// publish waits for the broker to be open.
func (k *carrier) publish(ctx context.Context, p Publication) error {
	select {
	case <-k.ready:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if k.err != nil {
		return k.err
	}
	// They are the caller's, who may use them again.
	p.Message.Content, p.Message.Binary = slices.Clone(p.Message.Content), slices.Clone(p.Message.Binary)
	return k.broker.Publish(ctx, p)
}
