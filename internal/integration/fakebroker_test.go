package integration_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/memory"
)

// fakeBroker is a broker in memory with hooks for a test. It can suppress deliveries.
type fakeBroker struct {
	*memory.Broker
	sink broker.Sink

	mu     sync.Mutex
	mute   bool
	before map[string]func() // by method: called before it
	after  map[string]func() // by method: called when its work is done, before it returns
	page   func(*broker.Page)
}

func newFakeBroker() *fakeBroker {
	return &fakeBroker{
		Broker: memory.New(nil), before: map[string]func(){}, after: map[string]func(){},
	}
}

func (fb *fakeBroker) Open(ctx context.Context, s broker.Sink) error {
	fb.sink = s
	return fb.Broker.Open(ctx, fb)
}

func (fb *fakeBroker) Deliver(pub broker.Publication) {
	fb.mu.Lock()
	mute := fb.mute
	fb.mu.Unlock()
	if !mute {
		fb.sink.Deliver(pub)
	}
}

func (fb *fakeBroker) Lost(stream string) { fb.sink.Lost(stream) }

func (fb *fakeBroker) Receive(string, []byte) {}

func (fb *fakeBroker) Cut(bool) {}

// withoutDelivery runs f and suppresses deliveries meanwhile.
func (fb *fakeBroker) withoutDelivery(f func()) {
	fb.setMute(true)
	defer fb.setMute(false)
	f()
}

func (fb *fakeBroker) setMute(yes bool) {
	fb.mu.Lock()
	defer fb.mu.Unlock()
	fb.mute = yes
}

// afterNext calls f once, when the next call of a method has done its work.
func (fb *fakeBroker) afterNext(method string, f func()) {
	fb.mu.Lock()
	defer fb.mu.Unlock()
	fb.after[method] = func() {
		fb.mu.Lock()
		delete(fb.after, method)
		fb.mu.Unlock()
		f()
	}
}

// hold makes a method wait until release is called.
func (fb *fakeBroker) hold(method string) (release func()) {
	fb.mu.Lock()
	defer fb.mu.Unlock()
	held := make(chan struct{})
	fb.before[method] = func() { <-held }
	return func() {
		close(held)
		synctest.Wait()
	}
}

func (fb *fakeBroker) runHook(hooks map[string]func(), method string) {
	fb.mu.Lock()
	f := hooks[method]
	fb.mu.Unlock()
	if f != nil {
		f()
	}
}

func (fb *fakeBroker) Subscribe(ctx context.Context, stream string) (broker.Position, error) {
	fb.runHook(fb.before, "subscribe")
	return fb.Broker.Subscribe(ctx, stream)
}

func (fb *fakeBroker) Unsubscribe(ctx context.Context, stream string) error {
	fb.runHook(fb.before, "unsubscribe")
	return fb.Broker.Unsubscribe(ctx, stream)
}

func (fb *fakeBroker) Read(ctx context.Context, stream string, q broker.Query) (broker.Page, error) {
	page, err := fb.Broker.Read(ctx, stream, q)
	if fb.page != nil {
		fb.page(&page)
	}
	fb.runHook(fb.after, "read")
	return page, err
}

// withFakeBroker runs a test with alice, a member of the hall that has received two messages.
func withFakeBroker(t *testing.T, test func(t *testing.T, b *bed, fb *fakeBroker, alice *client, r *streamClient)) {
	o := keeping(100)
	fb := newFakeBroker()
	o.Broker = fb
	bubble(t, o, func(t *testing.T, b *bed) {
		alice, r := b.follow("alice", "")
		b.sendWords(1, 2)
		r.receive(alice.raw())
		require.Equal(t, words(1, 2), r.takeWords())
		test(t, b, fb, alice, r)
	})
}

var hall = broker.RoomStream("hall")

func (fb *fakeBroker) Ack(ctx context.Context, stream, reader string, at broker.Position) error {
	fb.runHook(fb.before, "ack")
	return fb.Broker.Ack(ctx, stream, reader, at)
}
