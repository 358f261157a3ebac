package bolt

import (
	"context"
	"sync/atomic"

	"github.com/realtime-go/realtime"
)

// Subscribe has what comes in a stream delivered. It waits for the disk if the stream is new.
func (b *Broker) Subscribe(ctx context.Context, stream string) (realtime.Position, error) {
	if err := b.err(ctx); err != nil {
		return realtime.Position{}, err
	}
	h, err := b.acquire(stream)
	if err != nil {
		return realtime.Position{}, err
	}
	if at, ok := h.join(); ok {
		return at, nil // the pin is the subscription's now
	}
	defer b.cache.unpin(h)
	return b.beginAndJoin(ctx, h)
}

// join subscribes to a stream that is there.
func (h *head) join() (realtime.Position, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seen.Epoch == "" {
		return realtime.Position{}, false
	}
	h.subs++
	return h.seen, true
}

// beginAndJoin subscribes to a stream that may have to begin.
func (b *Broker) beginAndJoin(ctx context.Context, h *head) (at realtime.Position, err error) {
	b.cache.again(h) // for the task
	b.cache.again(h) // for the subscription
	var decided atomic.Bool
	var begun realtime.Position
	err = b.submit(ctx, &task{
		head: h,
		do: func(bt *batch) error {
			st := bt.state(h)
			if st.number == 0 {
				if err := bt.begin(h); err != nil {
					return err
				}
			}
			begun = st.position(bt.era, 0)
			return nil
		},
		land: func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.seen.Epoch == "" {
				h.seen = begun
			}
			if decided.CompareAndSwap(false, true) { // still waited for
				h.subs++
				at = h.seen
			}
		},
	})
	if err == nil {
		return at, nil
	}
	if !decided.CompareAndSwap(false, true) {
		h.leave()
	}
	b.cache.unpin(h)
	return realtime.Position{}, err
}

// Unsubscribe ends one Subscribe. When it has returned for the last one, no Deliver is under way.
func (b *Broker) Unsubscribe(_ context.Context, stream string) error {
	if err := b.err(context.Background()); err != nil {
		return err
	}
	if h := b.cache.find(stream); h != nil && h.leave() {
		b.cache.unpin(h)
	}
	return nil
}

// leave ends a subscription, if there is one.
func (h *head) leave() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subs == 0 {
		return false
	}
	h.subs--
	return true
}
