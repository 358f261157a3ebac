package recovery

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/realtime-go/realtime/broker"
)

// unsubscribeTimeout bounds how long the broker may take to unsubscribe, and closeTimeout how long
// it may take to close.
const (
	unsubscribeTimeout = 5 * time.Second
	closeTimeout       = 10 * time.Second
)

// Broker is a broker in use: its methods wait until the broker is open. All methods are safe for
// concurrent use.
type Broker struct {
	broker broker.Broker
	reads  reads

	ready chan struct{} // closed when Open has returned
	err   error         // of Open; valid after ready

	ending sync.Once
	work   sync.WaitGroup
	mu     sync.Mutex
	closed bool
}

// NewBroker returns a Broker that is not open.
func NewBroker(b broker.Broker) *Broker {
	return &Broker{broker: b, ready: make(chan struct{})}
}

// Open opens the broker. It is called once.
func (k *Broker) Open(ctx context.Context, s broker.Sink) {
	k.err = k.broker.Open(ctx, s)
	close(k.ready)
}

// Close waits for the goroutines of Go and closes the broker. Open must have returned. It may be
// called again.
func (k *Broker) Close() {
	k.ending.Do(func() {
		k.mu.Lock()
		k.closed = true
		k.mu.Unlock()
		k.work.Wait()
		if k.err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
			defer cancel()
			_ = k.broker.Close(ctx)
		}
	})
}

// Go runs f in a goroutine that Close waits for. After Close it does nothing.
func (k *Broker) Go(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closed {
		k.work.Go(f)
	}
}

// wait waits for the broker to be open.
func (k *Broker) wait(ctx context.Context) error {
	select {
	case <-k.ready:
		return k.err
	default:
	}
	select {
	case <-k.ready:
		return k.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Publish publishes the parts of one message.
func (k *Broker) Publish(ctx context.Context, parts ...broker.Publication) ([]broker.Published, error) {
	if err := k.wait(ctx); err != nil {
		return nil, err
	}
	n := len(parts) // the broker owns parts from now on
	results, err := k.broker.Publish(ctx, parts...)
	switch {
	case err != nil:
		return nil, err
	case len(results) != n:
		return nil, fmt.Errorf("realtime: the broker returned %d results for %d publications", len(results), n)
	}
	return results, nil
}

func (k *Broker) subscribe(ctx context.Context, stream string) (broker.Position, error) {
	if err := k.wait(ctx); err != nil {
		return broker.Position{}, err
	}
	return k.broker.Subscribe(ctx, stream)
}

// unsubscribe does not wait for the broker, because the caller may hold locks.
func (k *Broker) unsubscribe(stream string) {
	k.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), unsubscribeTimeout)
		defer cancel()
		_ = k.broker.Unsubscribe(ctx, stream)
	})
}

// Cursor returns the position that a reader of a stream has acknowledged.
func (k *Broker) Cursor(ctx context.Context, stream, reader string) (broker.Position, error) {
	if err := k.wait(ctx); err != nil {
		return broker.Position{}, err
	}
	return k.broker.Cursor(ctx, stream, reader)
}

// Ack acknowledges a position for a reader of a stream.
func (k *Broker) Ack(ctx context.Context, stream, reader string, at broker.Position) error {
	if err := k.wait(ctx); err != nil {
		return err
	}
	return k.broker.Ack(ctx, stream, reader, at)
}

// Read returns a page of a stream. Callers that read the same at the same time share a read.
func (k *Broker) Read(ctx context.Context, stream string, q broker.Query) (broker.Page, error) {
	r := k.read(ctx, &read{key: readKey{stream, q}}, never)
	page := r.page
	k.reads.mu.Lock()
	defer k.reads.mu.Unlock()
	if r.shared { // the caller may change its page
		page.Publications = slices.Clone(page.Publications)
	}
	return page, r.err
}

// read is reads.get with the broker.
func (k *Broker) read(ctx context.Context, mine *read, fits func(*read) bool) *read {
	return k.reads.get(ctx, mine, fits, func() (broker.Page, error) {
		if err := k.wait(ctx); err != nil {
			return broker.Page{}, err
		}
		return k.broker.Read(ctx, mine.key.stream, mine.key.query)
	})
}
