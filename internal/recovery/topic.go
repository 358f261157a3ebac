package recovery

import (
	"context"
	"errors"
	"sync"

	"github.com/realtime-go/realtime/broker"
)

// Topic is a stream that this process is subscribed to: of a room with members here, or of the
// inbox of a user with connections here. The lock of the room or the user guards it; the caller
// holds it where a method does not say otherwise.
type Topic struct {
	Stream string
	Room   string // the name of the room; empty for an inbox
	Policy Policy

	mu   *sync.Mutex
	last broker.Position // of the newest publication delivered here

	losses uint64 // how many times publications after last may have been lost
	reread uint64 // how many of these losses a read has covered

	opening *opening // nil before the first one
}

// opening is a subscribe of the broker, under way or successful.
type opening struct {
	done chan struct{} // closed at its end
	err  error         // valid after done
}

// NewTopic returns a topic that mu guards.
func NewTopic(stream, room string, p Policy, mu *sync.Mutex) *Topic {
	return &Topic{Stream: stream, Room: room, Policy: p, mu: mu}
}

// Open subscribes to the stream, unless that is done. It waits for the broker until ctx ends. The
// caller does not hold the lock, and prevents Close meanwhile.
func (t *Topic) Open(ctx context.Context, b *Broker) error {
	for {
		t.mu.Lock()
		mine := t.opening == nil
		if mine {
			t.opening = &opening{done: make(chan struct{})}
		}
		o := t.opening
		t.mu.Unlock()
		if mine {
			return t.subscribe(ctx, b, o)
		}
		select {
		case <-o.done:
			if o.err == nil || errors.Is(o.err, broker.ErrUnavailable) {
				return o.err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (t *Topic) subscribe(ctx context.Context, b *Broker, o *opening) error {
	defer close(o.done)
	at, err := b.subscribe(ctx, t.Stream)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		o.err, t.opening = err, nil // the next Open tries again
		return err
	}
	// A publication that was delivered meanwhile may belong to an older subscription, which may
	// have ended before at.
	if t.last.Epoch != at.Epoch || t.last.Offset < at.Offset {
		t.last = at
	}
	return nil
}

// Close unsubscribes, if the topic is open. It does not wait for the broker.
func (t *Topic) Close(b *Broker) {
	if t.opening != nil {
		b.unsubscribe(t.Stream)
		t.opening = nil
	}
}

// Has reports whether a publication at this position was delivered before: it was read after a
// loss, or comes from an older subscription. Its receivers have it or read it.
func (t *Topic) Has(at broker.Position) bool {
	return at.Epoch == t.last.Epoch && at.Offset <= t.last.Offset
}

// Delivered notes that a publication was delivered here.
func (t *Topic) Delivered(at broker.Position) { t.last = at }

// Lost notes that publications after the last one may have been lost. The caller then calls Reread
// of each subscription.
func (t *Topic) Lost() { t.losses++ }

// lost reports whether there is a loss that no read has covered.
func (t *Topic) lost() bool { return t.reread != t.losses }

// found notes the end of the stream as of a read that began after so many losses. It does not go
// back before a publication that was delivered meanwhile, and does not cover a later loss.
func (t *Topic) found(top broker.Position, losses uint64) {
	if !t.lost() || losses != t.losses {
		return
	}
	t.reread = losses
	if top.Epoch != "" && (top.Epoch != t.last.Epoch || top.Offset > t.last.Offset) {
		t.last = top
	}
}
