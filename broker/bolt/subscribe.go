package bolt

import (
	"context"

	"github.com/realtime-go/realtime/broker"
)

// Subscribe has what comes in a stream delivered. It never waits for the disk: a stream that is not
// there is not kept before the first publication.
func (b *Broker) Subscribe(ctx context.Context, stream string) (broker.Position, error) {
	if err := b.err(ctx); err != nil {
		return broker.Position{}, err
	}
	h, err := b.acquire(stream) // the pin is the subscription's
	if err != nil {
		return broker.Position{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subs++
	return h.seen, nil
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
