package redis

import (
	"context"

	"github.com/realtime-go/realtime/broker"
)

// Cursor returns the position that a reader has acknowledged.
func (b *Broker) Cursor(
	outer context.Context, stream, reader string,
) (broker.Position, error) {
	ctx, end, err := b.begin(outer)
	if err != nil {
		return broker.Position{}, err
	}
	defer end()
	at, err := b.cursor(ctx, stream, reader)
	return at, b.failure(outer, err)
}

func (b *Broker) cursor(ctx context.Context, stream, reader string) (broker.Position, error) {
	if err := b.introduce(ctx, stream); err != nil {
		return broker.Position{}, err
	}
	generation, at, exists, err := b.askCursor(ctx, stream, reader, false)
	switch {
	case err != nil:
		return broker.Position{}, err
	case !exists && !b.interest.track(stream, reader):
		return broker.Position{}, nil
	}
	return broker.Position{Epoch: epoch(generation, stream), Offset: at}, nil
}

// introduce makes readers known that have come before the first publication.
func (b *Broker) introduce(ctx context.Context, stream string) error {
	readers := b.interest.tracked(stream)
	for _, reader := range readers {
		_, _, exists, err := b.askCursor(ctx, stream, reader, true)
		if err != nil {
			return err
		}
		if !exists {
			return nil
		}
		b.interest.forget(stream, reader)
	}
	return nil
}

func (b *Broker) askCursor(
	ctx context.Context, stream, reader string, early bool,
) (generation string, at uint64, exists bool, err error) {
	bucket := b.names.bucket(stream)
	fields, err := b.run(ctx, call{
		cursorScript, b.names.stream(bucket, stream),
		[]string{reader, flag(early)},
	})
	if err != nil {
		return "", 0, false, err
	}
	if len(fields) == 0 || len(fields) > 2 {
		return "", 0, false, errReply
	}
	if generation, err = fields[0].ToString(); err != nil {
		return "", 0, false, errReply
	}
	if len(fields) == 1 {
		return generation, 0, false, nil
	}
	n, err := fields[1].AsInt64()
	if err != nil {
		return "", 0, false, errReply
	}
	return generation, uint64(n), true, nil
}

// The states that the script of Ack returns.
const (
	acked = iota
	noStream
	invalid
)

// Ack moves a cursor.
func (b *Broker) Ack(
	outer context.Context, stream, reader string, at broker.Position,
) error {
	ctx, end, err := b.begin(outer)
	if err != nil {
		return err
	}
	defer end()
	return b.failureOfAck(outer, b.ack(ctx, stream, reader, at))
}

func (b *Broker) failureOfAck(outer context.Context, err error) error {
	if err == broker.ErrInvalidPosition {
		return err
	}
	return b.failure(outer, err)
}

func (b *Broker) ack(ctx context.Context, stream, reader string, at broker.Position) error {
	of, ok := generationOf(at.Epoch, stream)
	if !ok || at.Offset > 1<<53 {
		return broker.ErrInvalidPosition
	}
	if err := b.introduce(ctx, stream); err != nil {
		return err
	}
	bucket := b.names.bucket(stream)
	fields, err := b.run(ctx, call{
		ackScript, b.names.stream(bucket, stream),
		[]string{reader, of, offset(at.Offset)},
	})
	if err != nil {
		return err
	}
	if len(fields) != 2 {
		return errReply
	}
	state, err := fields[0].AsInt64()
	generation, failed := fields[1].ToString()
	switch {
	case err != nil || failed != nil:
		return errReply
	case state == acked:
		return nil
	case state == noStream && generation == of && at.Offset == 0 && b.interest.track(stream, reader):
		return nil
	}
	return broker.ErrInvalidPosition
}
