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

func (p *fakeBroker) Open(ctx context.Context, s broker.Sink) error {
	p.sink = s
	return p.Broker.Open(ctx, p)
}

func (p *fakeBroker) Deliver(pub broker.Publication) {
	p.mu.Lock()
	mute := p.mute
	p.mu.Unlock()
	if !mute {
		p.sink.Deliver(pub)
	}
}

func (p *fakeBroker) Lost(stream string) { p.sink.Lost(stream) }

// withoutDelivery runs f and suppresses deliveries meanwhile.
func (p *fakeBroker) withoutDelivery(f func()) {
	p.setMute(true)
	defer p.setMute(false)
	f()
}

func (p *fakeBroker) setMute(yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute = yes
}

// afterNext calls f once, when the next call of a method has done its work.
func (p *fakeBroker) afterNext(method string, f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.after[method] = func() {
		p.mu.Lock()
		delete(p.after, method)
		p.mu.Unlock()
		f()
	}
}

// hold makes a method wait until release is called.
func (p *fakeBroker) hold(method string) (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	held := make(chan struct{})
	p.before[method] = func() { <-held }
	return func() {
		close(held)
		synctest.Wait()
	}
}

func (p *fakeBroker) runHook(hooks map[string]func(), method string) {
	p.mu.Lock()
	f := hooks[method]
	p.mu.Unlock()
	if f != nil {
		f()
	}
}

func (p *fakeBroker) Subscribe(ctx context.Context, stream string) (broker.Position, error) {
	p.runHook(p.before, "subscribe")
	return p.Broker.Subscribe(ctx, stream)
}

func (p *fakeBroker) Unsubscribe(ctx context.Context, stream string) error {
	p.runHook(p.before, "unsubscribe")
	return p.Broker.Unsubscribe(ctx, stream)
}

func (p *fakeBroker) Read(ctx context.Context, stream string, q broker.Query) (broker.Page, error) {
	page, err := p.Broker.Read(ctx, stream, q)
	if p.page != nil {
		p.page(&page)
	}
	p.runHook(p.after, "read")
	return page, err
}

// withFakeBroker runs a test with alice, a member of the hall that has received two messages.
func withFakeBroker(t *testing.T, test func(t *testing.T, b *bed, p *fakeBroker, alice *client, r *streamClient)) {
	o := keeping(100)
	p := newFakeBroker()
	o.Broker = p
	bubble(t, o, func(t *testing.T, b *bed) {
		alice, r := b.follow("alice", "")
		b.sendWords(1, 2)
		r.receive(alice.raw())
		require.Equal(t, words(1, 2), r.takeWords())
		test(t, b, p, alice, r)
	})
}

var hall = broker.RoomStream("hall")

func (p *fakeBroker) Ack(ctx context.Context, stream, reader string, at broker.Position) error {
	p.runHook(p.before, "ack")
	return p.Broker.Ack(ctx, stream, reader, at)
}
