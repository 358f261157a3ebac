package memengine

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/memory"
	"github.com/realtime-go/realtime/internal/tail"
)

const (
	// bound is how long a broker must have been unable to reach the engine to be cut off.
	bound = 5 * time.Second
	// The end of a stream is compared these times after Subscribe, and that of all streams always.
	soon, later, always = 300 * time.Millisecond, 3 * time.Second, time.Minute
)

// Broker is a [broker.Bus] on an Engine.
type Broker struct {
	engine *Engine
	cut    bool // guarded by engine.mu, like mute
	mute   bool

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup

	calls   sync.RWMutex // held for reading by calls, and for writing by Close
	mu      sync.Mutex
	sink    broker.Sink // nil before Open
	tails   *tail.Tails
	closed  bool
	streams map[string]int // subscriptions
	listens map[string]int
	queues  map[string]*queue

	reachable bool
	told      bool // that it is cut off
	links     sync.Mutex
	timer     *time.Timer // of an outage
	comparing *time.Timer
}

// own is the Origin of a publication in the store: the broker that has published it, with its own.
type own struct {
	by     *Broker
	origin any
	taken  *broker.Publication // set if the store delivers it
}

func newBroker(e *Engine) *Broker {
	b := &Broker{
		engine: e, reachable: true, streams: map[string]int{}, listens: map[string]int{},
		queues: map[string]*queue{},
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// Open starts delivery.
func (b *Broker) Open(_ context.Context, s broker.Sink) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sink != nil {
		return errors.New("memengine: the broker serves another Manager")
	}
	b.sink = s
	b.tails = tail.New(tail.Config{Sink: s, Read: b.read, Go: b.spawn, Context: b.ctx})
	b.comparing = time.AfterFunc(always, b.compareAll)
	return nil
}

// Close ends delivery.
func (b *Broker) Close(context.Context) error {
	b.mu.Lock()
	b.closed, b.queues = true, nil
	for _, t := range []*time.Timer{b.timer, b.comparing} {
		if t != nil {
			t.Stop()
		}
	}
	tails := b.tails
	b.mu.Unlock()
	b.cancel()
	b.engine.leave(b)
	if tails != nil {
		tails.Close()
	}
	b.work.Wait()
	b.calls.Lock()
	defer b.calls.Unlock()
	return nil
}

// spawn runs f in a goroutine that Close waits for.
func (b *Broker) spawn(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.work.Go(f)
	}
}

// use begins a call. It returns the store of the engine, and a function that ends the call.
func (b *Broker) use(ctx context.Context) (store *memory.Broker, done func(), err error) {
	b.calls.RLock()
	if store, err = b.reach(ctx); err != nil {
		b.calls.RUnlock()
		return nil, nil, err
	}
	return store, b.calls.RUnlock, nil
}

func (b *Broker) reach(ctx context.Context) (*memory.Broker, error) {
	b.mu.Lock()
	closed := b.closed
	b.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case closed:
		return nil, broker.ErrClosed
	}
	return b.engine.reach(ctx, b)
}

// Publish takes the parts of a message. If the broker is cut off while it waits for the answer, the
// parts may be taken although it returns ErrUnavailable.
func (b *Broker) Publish(ctx context.Context, parts ...broker.Publication) ([]broker.Published, error) {
	store, done, err := b.use(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	mine := make([]own, len(parts))
	for i := range parts {
		mine[i] = own{by: b, origin: parts[i].Origin}
		parts[i].Origin = &mine[i]
	}
	out, err := store.Publish(ctx, parts...)
	if err != nil {
		return nil, err
	}
	if _, err := b.reach(ctx); err != nil { // the answer takes as long as the call
		return nil, err
	}
	for i := range mine {
		if p := mine[i].taken; p != nil && b.tails.Arrived(*p) {
			b.tails.Await(ctx, p.Stream, p.Position)
		}
	}
	return out, nil
}

// Subscribe starts delivery of a stream.
func (b *Broker) Subscribe(ctx context.Context, stream string) (broker.Position, error) {
	store, done, err := b.use(ctx)
	if err != nil {
		return broker.Position{}, err
	}
	defer done()
	b.tails.Subscribe(stream)
	b.count(b.streams, stream, 1)
	at, err := store.Subscribe(ctx, stream)
	if err != nil {
		b.tails.Unsubscribe(stream)
		b.count(b.streams, stream, -1)
		return broker.Position{}, err
	}
	for _, wait := range []time.Duration{soon, later} {
		time.AfterFunc(wait, func() { b.spawn(func() { b.compare(stream) }) })
	}
	return b.tails.Start(stream, at), nil
}

// Unsubscribe ends a subscription.
func (b *Broker) Unsubscribe(ctx context.Context, stream string) error {
	b.calls.RLock()
	defer b.calls.RUnlock()
	b.mu.Lock()
	closed, had := b.closed, b.streams[stream] > 0
	b.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case closed:
		return broker.ErrClosed
	case !had:
		return nil
	}
	b.tails.Unsubscribe(stream)
	b.count(b.streams, stream, -1)
	return b.engine.current().Unsubscribe(ctx, stream)
}

// Read returns a part of a stream.
func (b *Broker) Read(ctx context.Context, stream string, q broker.Query) (broker.Page, error) {
	store, done, err := b.use(ctx)
	if err != nil {
		return broker.Page{}, err
	}
	defer done()
	return store.Read(ctx, stream, q)
}

// read is Read of the tails, which end before Close returns.
func (b *Broker) read(ctx context.Context, stream string, q broker.Query) (broker.Page, error) {
	store, err := b.reach(ctx)
	if err != nil {
		return broker.Page{}, err
	}
	return store.Read(ctx, stream, q)
}

// Cursor returns the position that a reader has acknowledged.
func (b *Broker) Cursor(ctx context.Context, stream, reader string) (broker.Position, error) {
	store, done, err := b.use(ctx)
	if err != nil {
		return broker.Position{}, err
	}
	defer done()
	return store.Cursor(ctx, stream, reader)
}

// Ack moves a cursor.
func (b *Broker) Ack(ctx context.Context, stream, reader string, at broker.Position) error {
	store, done, err := b.use(ctx)
	if err != nil {
		return err
	}
	defer done()
	return store.Ack(ctx, stream, reader, at)
}

// Listen starts delivery of what others send to a subject.
func (b *Broker) Listen(ctx context.Context, subject string) error {
	b.calls.RLock()
	defer b.calls.RUnlock()
	b.count(b.listens, subject, 1) // also if it fails
	_, err := b.reach(ctx)
	return err
}

// Unlisten ends a Listen.
func (b *Broker) Unlisten(ctx context.Context, subject string) error {
	b.calls.RLock()
	defer b.calls.RUnlock()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	b.count(b.listens, subject, -1)
	return nil
}

// Send passes data on to the others.
func (b *Broker) Send(ctx context.Context, data []byte, subjects ...string) (receivers int, err error) {
	_, done, err := b.use(ctx)
	if err != nil {
		return 0, err
	}
	defer done()
	for _, subject := range subjects {
		receivers += b.engine.pass(subject, b, func(to *Broker) func() {
			copied := slices.Clone(data)
			return func() { to.received(subject, copied) }
		})
	}
	return receivers, nil
}

// count changes how often something is in force. It is never less than zero.
func (b *Broker) count(in map[string]int, name string, by int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if in[name] += by; in[name] <= 0 {
		delete(in, name)
	}
}

// received gives the Sink what another broker has sent.
func (b *Broker) received(subject string, data []byte) {
	if b.has(b.listens, subject) {
		b.sink.Receive(subject, data)
	}
}

// arrived takes a publication of the engine. Those of a stream without a subscription are for who
// listens to its name.
func (b *Broker) arrived(p broker.Publication) {
	if !b.tails.Arrived(p) && b.has(b.listens, p.Stream) {
		b.sink.Deliver(p)
	}
}

func (b *Broker) has(in map[string]int, name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return in[name] > 0 && !b.closed
}

// joined reports whether the broker is to get what goes to a channel.
func (b *Broker) joined(channel string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.streams[channel] > 0 || b.listens[channel] > 0
}

// compare compares the end of a stream with what was delivered.
func (b *Broker) compare(stream string) {
	if page, err := b.read(b.ctx, stream, broker.Query{Backwards: true, Limit: 1}); err == nil {
		b.tails.Compare(stream, page.Top)
	}
}

// compareAll is compare of all streams, now and always.
func (b *Broker) compareAll() {
	b.spawn(func() {
		for _, stream := range b.tails.Streams() {
			b.compare(stream)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.closed {
			b.comparing.Reset(always)
		}
	})
}

// setReachable notes that the engine can or cannot be reached.
func (b *Broker) setReachable(yes bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.reachable == yes || b.sink == nil || b.closed {
		return
	}
	b.reachable = yes
	if !yes {
		b.timer = time.AfterFunc(bound, func() { b.spawn(b.outage) })
		return
	}
	b.timer.Stop()
	b.work.Go(b.back)
}

// outage tells the Sink that the broker is cut off, if it still is.
func (b *Broker) outage() {
	b.links.Lock()
	defer b.links.Unlock()
	b.mu.Lock()
	tell := !b.reachable && !b.told
	b.told = b.told || tell
	b.mu.Unlock()
	if tell {
		b.sink.Cut(true)
	}
}

// back finds what was missed.
func (b *Broker) back() {
	b.links.Lock()
	defer b.links.Unlock()
	for _, stream := range b.tails.Streams() {
		b.compare(stream)
	}
	b.mu.Lock()
	tell := b.reachable && b.told
	b.told = b.told && !tell
	b.mu.Unlock()
	if tell {
		b.sink.Cut(false)
	}
}

// subscriptions returns the streams with their numbers of subscriptions.
func (b *Broker) subscriptions() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.streams)
}

// queue is what is under way to a broker in one channel, in its order.
type queue struct{ items []item }

type item struct {
	at time.Time
	do func()
}

// post does something after a delay, after what was posted to the channel before.
func (b *Broker) post(channel string, delay time.Duration, do func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	q := b.queues[channel]
	if q == nil {
		q = &queue{}
		b.queues[channel] = q
		b.work.Go(func() { b.carry(channel, q) })
	}
	q.items = append(q.items, item{time.Now().Add(delay), do})
}

// carry does what is posted to a channel, until nothing is left.
func (b *Broker) carry(channel string, q *queue) {
	for {
		b.mu.Lock()
		if b.closed || len(q.items) == 0 {
			delete(b.queues, channel)
			b.mu.Unlock()
			return
		}
		next := q.items[0]
		q.items = q.items[1:]
		b.mu.Unlock()
		select {
		case <-time.After(time.Until(next.at)):
			next.do()
		case <-b.ctx.Done():
		}
	}
}
