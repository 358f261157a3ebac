package redis

import (
	"context"

	"github.com/realtime-go/realtime/broker"
)

// Subscribe starts delivery of a stream.
func (b *Broker) Subscribe(outer context.Context, stream string) (broker.Position, error) {
	ctx, end, err := b.begin(outer)
	if err != nil {
		return broker.Position{}, err
	}
	defer end()
	bucket := b.names.bucket(stream)
	b.interest.add(stream, 1, 0)
	b.tails.Subscribe(stream)
	var ends []broker.Position
	if err = b.link(bucket).join(ctx, bucket, b.names.channel(bucket, stream)); err == nil {
		ends, err = b.ends(ctx, bucket, []string{stream})
	}
	if err != nil {
		b.tails.Unsubscribe(stream)
		b.interest.add(stream, -1, 0)
		b.spawn(func() { b.leave(stream) })
		return broker.Position{}, b.failure(outer, err)
	}
	at := b.tails.Start(stream, ends[0])
	b.compare.soon(stream)
	return at, nil
}

// Unsubscribe ends a subscription. It does not need the engine.
func (b *Broker) Unsubscribe(ctx context.Context, stream string) error {
	return b.end(ctx, stream, func() bool {
		if !b.interest.add(stream, -1, 0) {
			return false
		}
		b.tails.Unsubscribe(stream)
		return true
	})
}

// Listen starts delivery of what others send to a subject.
func (b *Broker) Listen(outer context.Context, subject string) error {
	if !b.gate.enter() {
		return errClosed
	}
	defer b.gate.leave()
	b.interest.add(subject, 0, 1)
	bucket := b.names.bucket(subject)
	l := b.link(bucket)
	c := l.add(bucket, b.names.channel(bucket, subject))
	ctx, end, err := b.begin(outer)
	if err == nil {
		defer end()
		err = b.failure(outer, l.settle(ctx, c))
	}
	if err != nil { // it is in force as soon as possible nevertheless
		l.mend()
	}
	return err
}

// Unlisten ends a Listen. It does not need the engine.
func (b *Broker) Unlisten(ctx context.Context, subject string) error {
	return b.end(ctx, subject, func() bool { return b.interest.add(subject, 0, -1) })
}

// end ends a subscription to a channel, if there was one.
func (b *Broker) end(ctx context.Context, name string, had func() bool) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if !b.gate.enter() {
		return errClosed
	}
	defer b.gate.leave()
	if had() {
		b.leave(name)
	}
	return nil
}

// leave leaves the channel of a name.
func (b *Broker) leave(name string) {
	ctx, cancel := context.WithTimeout(b.ctx, b.options.Timeout)
	defer cancel()
	bucket := b.names.bucket(name)
	b.link(bucket).leave(ctx, b.names.channel(bucket, name))
}

// Send passes data on to the others.
func (b *Broker) Send(outer context.Context, data []byte, subjects ...string) (int, error) {
	ctx, end, err := b.begin(outer)
	if err != nil {
		return 0, err
	}
	defer end()
	n, err := b.send(ctx, data, subjects)
	return n, b.failure(outer, err)
}

// received takes what has arrived in the channel of a name.
func (b *Broker) received(name, text string) {
	e, err := decode(text)
	if err != nil {
		b.unreadable(name, err)
		b.compare.now(name)
		return
	}
	streams, listens := b.interest.in(name)
	mine := e.node == b.node
	if e.kind == sent {
		if !mine && listens > 0 {
			b.sink.Receive(name, []byte(e.data))
		}
		return
	}
	if mine && streams > 0 && b.flights.arrive(&e) {
		return // Publish delivers it
	}
	if streams == 0 && listens == 0 {
		return
	}
	p, err := b.publication(e.record, name, e.generation, e.place)
	if err != nil {
		b.unreadable(name, err)
		b.compare.now(name)
		return
	}
	if b.tails.Arrived(p) {
		if p.Prev == 0 {
			b.first(name)
		}
	} else if listens > 0 {
		b.sink.Deliver(p)
	}
}

// publication decodes a publication. It has its origin if it is of a Publish that has not returned.
func (b *Broker) publication(
	k *kept, stream, generation string, at place,
) (broker.Publication, error) {
	p, err := k.publication(stream, generation, at)
	if k.node == b.node {
		p.Origin = b.flights.origin(k.call)
	}
	return p, err
}

// first is called for the first publication of a stream by another process.
func (b *Broker) first(stream string) {
	if len(b.interest.tracked(stream)) == 0 {
		return
	}
	b.spawn(func() {
		ctx, cancel := context.WithTimeout(b.ctx, b.options.Timeout)
		defer cancel()
		_ = b.introduce(ctx, stream) // if it fails, the next Cursor or Ack does it
	})
}
