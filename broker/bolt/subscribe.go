package bolt

import (
	"context"

	"github.com/realtime-go/realtime/broker"
)

// Subscribe starts delivery of the stream. It never waits for the disk: nothing is written for a
// stream before its first publication.
func (b *Broker) Subscribe(ctx context.Context, stream string) (broker.Position, error) {
	if err := b.err(ctx); err != nil {
		return broker.Position{}, err
	}
	h, err := b.acquire(stream) // the subscription keeps the pin
	if err != nil {
		return broker.Position{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.subs++
	return h.seen, nil
}

// Unsubscribe ends one Subscribe. When it returns for the last one, no Deliver of the stream is in
// progress.
func (b *Broker) Unsubscribe(_ context.Context, stream string) error {
	if err := b.err(context.Background()); err != nil {
		return err
	}
	if h := b.cache.find(stream); h != nil && h.unsubscribe() {
		b.cache.unpin(h)
	}
	return nil
}

// unsubscribe ends a subscription. It reports false if there is none.
func (h *head) unsubscribe() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subs == 0 {
		return false
	}
	h.subs--
	return true
}
