package realtime

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/memory"
)

// unsubscribeTime is how long a broker may take to stop a delivery that nobody needs any more.
const unsubscribeTime = 5 * time.Second

// closeTime is how long a broker may take to end.
const closeTime = 10 * time.Second

// carrier is a broker with the Manager that uses it.
type carrier struct {
	broker broker.Broker
	local  bool // it serves this process alone

	ready chan struct{} // closed when Open has returned
	err   error         // of Open, once ready

	ending sync.Once
	work   sync.WaitGroup
	mu     sync.Mutex
	closed bool
}

// newCarrier returns a carrier for a broker, or for one in this process's memory.
func newCarrier(b broker.Broker) *carrier {
	k := &carrier{broker: b, ready: make(chan struct{})}
	if b == nil {
		k.broker = memory.New(nil)
	}
	if l, ok := k.broker.(broker.Local); ok {
		k.local = l.Local()
	}
	return k
}

func (k *carrier) open(ctx context.Context, s broker.Sink) {
	k.err = k.broker.Open(ctx, s)
	close(k.ready)
}

// close waits for what was spawned, and ends the broker. It may be called again, once open has
// returned.
func (k *carrier) close() {
	k.ending.Do(func() {
		k.mu.Lock()
		k.closed = true
		k.mu.Unlock()
		k.work.Wait()
		if k.err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), closeTime)
			defer cancel()
			_ = k.broker.Close(ctx)
		}
	})
}

// spawn starts a goroutine that close waits for, and none after that.
func (k *carrier) spawn(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closed {
		k.work.Go(f)
	}
}

// await waits for the broker to be open.
func (k *carrier) await(ctx context.Context) error {
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

// publish gives the parts of one message to the broker.
func (k *carrier) publish(ctx context.Context, parts ...broker.Publication) ([]broker.Published, error) {
	if err := k.await(ctx); err != nil {
		return nil, err
	}
	n := len(parts) // they are the broker's from now on
	took, err := k.broker.Publish(ctx, parts...)
	switch {
	case err != nil:
		return nil, err
	case len(took) != n:
		return nil, fmt.Errorf("realtime: the broker says what became of %d parts of %d", len(took), n)
	}
	return took, nil
}

func (k *carrier) subscribe(ctx context.Context, stream string) (broker.Position, error) {
	if err := k.await(ctx); err != nil {
		return broker.Position{}, err
	}
	return k.broker.Subscribe(ctx, stream)
}

// unsubscribe undoes a subscribe, in its own time: the caller may hold locks.
func (k *carrier) unsubscribe(stream string) {
	k.spawn(func() {
		ctx, cancel := context.WithTimeout(context.Background(), unsubscribeTime)
		defer cancel()
		_ = k.broker.Unsubscribe(ctx, stream)
	})
}

// cursor returns how far a reader has come in a stream.
func (k *carrier) cursor(ctx context.Context, stream, reader string) (broker.Position, error) {
	if err := k.await(ctx); err != nil {
		return broker.Position{}, err
	}
	return k.broker.Cursor(ctx, stream, reader)
}

// ack moves a reader's cursor.
func (k *carrier) ack(ctx context.Context, stream, reader string, at broker.Position) error {
	if err := k.await(ctx); err != nil {
		return err
	}
	return k.broker.Ack(ctx, stream, reader, at)
}

func (k *carrier) read(ctx context.Context, stream string, q broker.Query) (broker.Page, error) {
	if err := k.await(ctx); err != nil {
		return broker.Page{}, err
	}
	return k.broker.Read(ctx, stream, q)
}
