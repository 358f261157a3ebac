package memengine

import (
	"context"
	"errors"
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
	// noticed is how long it takes to see that something was lost.
	noticed = time.Second
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
	owns    map[place]any // the origins of what Publish waits for

	reachable bool
	changes   int         // of reachable
	told      bool        // that it is cut off
	timer     *time.Timer // of an outage
	searching bool        // searchAfter has begun
	comparing *time.Timer

	telling sync.Mutex // held during Sink.Cut
}

// own is the Origin of a publication in the store: the broker that has published it, with its own.
type own struct {
	by     *Broker
	origin any
	taken  broker.Publication // set if the store delivers it
}

type place struct {
	stream string
	at     broker.Position
}

func newBroker(e *Engine) *Broker {
	b := &Broker{
		engine: e, reachable: true, streams: map[string]int{}, listens: map[string]int{},
		queues: map[string]*queue{}, owns: map[place]any{},
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

// Open starts delivery.
func (b *Broker) Open(_ context.Context, s broker.Sink) error {
	defer b.engine.check(b)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sink != nil {
		return errors.New("memengine: the broker serves another Manager")
	}
	b.sink = s
	b.tails = tail.New(tail.Config{Sink: s, Read: b.read, Go: b.spawn, Context: b.ctx})
	b.comparing = time.AfterFunc(always, b.compareAlways)
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

// use does the work of a method with the store of the engine.
func (b *Broker) use(ctx context.Context, do func(store *memory.Broker) error) error {
	b.calls.RLock()
	defer b.calls.RUnlock()
	return b.call(ctx, do)
}

// call calls do with the store of the engine. It takes time, as the answer does: if the broker is
// cut off in between, call returns ErrUnavailable although do was called.
func (b *Broker) call(ctx context.Context, do func(store *memory.Broker) error) (err error) {
	if err = b.engine.reach(ctx, b); err != nil {
		return err
	}
	b.engine.use(func(store *memory.Broker) { err = do(store) })
	if err != nil {
		return err
	}
	return b.engine.reach(ctx, b)
}

// Publish takes the parts of a message. If the broker is cut off while it waits for the answer, the
// parts may be taken although it returns ErrUnavailable.
func (b *Broker) Publish(
	ctx context.Context, parts ...broker.Publication,
) (out []broker.Published, err error) {
	b.calls.RLock()
	defer b.calls.RUnlock()
	mine := make([]own, len(parts))
	for i := range parts {
		mine[i] = own{by: b, origin: parts[i].Origin}
		parts[i].Origin = &mine[i]
	}
	defer b.forget(mine)
	err = b.call(ctx, func(store *memory.Broker) (err error) {
		out, err = store.Publish(ctx, parts...)
		return err
	})
	if err != nil {
		return nil, err
	}
	for i := range mine {
		p := &mine[i].taken
		if p.Stream != "" && b.tails.Arrived(b.withOrigin(*p)) {
			b.tails.Await(ctx, p.Stream, p.Position)
		}
	}
	if b.ctx.Err() != nil { // so it is unknown whether they were delivered
		return nil, broker.ErrClosed
	}
	return out, nil
}

// remember notes the origin of a publication that the store has taken, before anyone can read it.
func (b *Broker) remember(o *own) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.owns[place{o.taken.Stream, o.taken.Position}] = o.origin
}

func (b *Broker) forget(mine []own) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range mine {
		delete(b.owns, place{mine[i].taken.Stream, mine[i].taken.Position})
	}
}

// withOrigin returns a publication with its origin, if this broker publishes it.
func (b *Broker) withOrigin(p broker.Publication) broker.Publication {
	b.mu.Lock()
	defer b.mu.Unlock()
	p.Origin = b.owns[place{p.Stream, p.Position}]
	return p
}

// Subscribe starts delivery of a stream.
func (b *Broker) Subscribe(ctx context.Context, stream string) (at broker.Position, err error) {
	b.calls.RLock()
	defer b.calls.RUnlock()
	if b.ctx.Err() != nil {
		return at, broker.ErrClosed
	}
	joined := false
	b.tails.Subscribe(stream)
	err = b.call(ctx, func(store *memory.Broker) (err error) {
		b.count(b.streams, stream, 1)
		joined = true
		at, err = store.Subscribe(ctx, stream)
		return err
	})
	if err != nil {
		b.tails.Unsubscribe(stream)
		if joined {
			b.leave(b.streams, stream)
		}
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
	if err := b.usable(ctx); err != nil {
		return err
	}
	if b.leave(b.streams, stream) {
		b.tails.Unsubscribe(stream)
	}
	return nil
}

// usable returns an error if the broker is closed or ctx has ended.
func (b *Broker) usable(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case b.ctx.Err() != nil:
		return broker.ErrClosed
	}
	return nil
}

// leave ends what Subscribe or Listen has begun. It reports false if there is nothing to end.
func (b *Broker) leave(in map[string]int, name string) (had bool) {
	b.engine.use(func(store *memory.Broker) {
		if had = b.count(in, name, -1); had {
			_ = store.Unsubscribe(context.Background(), name) // fails if the engine is closed
		}
	})
	return had
}

// Read returns a part of a stream.
func (b *Broker) Read(
	ctx context.Context, stream string, q broker.Query,
) (page broker.Page, err error) {
	err = b.use(ctx, func(store *memory.Broker) (err error) {
		page, err = store.Read(ctx, stream, q)
		return err
	})
	if err != nil {
		return broker.Page{}, err
	}
	return page, nil
}

// read is Read of the tails, which end before Close returns.
func (b *Broker) read(
	ctx context.Context, stream string, q broker.Query,
) (page broker.Page, err error) {
	err = b.call(ctx, func(store *memory.Broker) (err error) {
		page, err = store.Read(ctx, stream, q)
		for i, p := range page.Publications {
			page.Publications[i] = b.withOrigin(p)
		}
		return err
	})
	return page, err
}

// Cursor returns the position that a reader has acknowledged.
func (b *Broker) Cursor(
	ctx context.Context, stream, reader string,
) (at broker.Position, err error) {
	err = b.use(ctx, func(store *memory.Broker) (err error) {
		at, err = store.Cursor(ctx, stream, reader)
		return err
	})
	if err != nil {
		return broker.Position{}, err
	}
	return at, nil
}

// Ack moves a cursor.
func (b *Broker) Ack(ctx context.Context, stream, reader string, at broker.Position) error {
	return b.use(ctx, func(store *memory.Broker) error { return store.Ack(ctx, stream, reader, at) })
}

// Listen starts delivery of what others send to a subject.
func (b *Broker) Listen(ctx context.Context, subject string) error {
	b.calls.RLock()
	defer b.calls.RUnlock()
	if b.ctx.Err() != nil {
		return broker.ErrClosed
	}
	b.engine.use(func(store *memory.Broker) { // also if it fails
		b.count(b.listens, subject, 1)
		_, _ = store.Subscribe(context.Background(), subject) // as for what is published to it
	})
	return b.call(ctx, func(*memory.Broker) error { return nil })
}

// Unlisten ends a Listen.
func (b *Broker) Unlisten(ctx context.Context, subject string) error {
	b.calls.RLock()
	defer b.calls.RUnlock()
	if err := b.usable(ctx); err != nil {
		return err
	}
	b.leave(b.listens, subject)
	return nil
}

// Send passes data on to the others.
func (b *Broker) Send(
	ctx context.Context, data []byte, subjects ...string,
) (receivers int, err error) {
	err = b.use(ctx, func(*memory.Broker) error {
		for _, subject := range subjects {
			receivers += b.engine.pass(subject, b, func(to *Broker) func() {
				copied := slices.Clone(data)
				return func() { to.received(subject, copied) }
			})
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return receivers, nil
}

// count changes how often something is in force. It reports false if that would be less than zero.
func (b *Broker) count(in map[string]int, name string, by int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if in[name]+by < 0 {
		return false
	}
	if in[name] += by; in[name] == 0 {
		delete(in, name)
	}
	return true
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
	if p = b.withOrigin(p); !b.tails.Arrived(p) && b.has(b.listens, p.Stream) {
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

// compareAll is compare of all streams.
func (b *Broker) compareAll() {
	streams := b.tails.Streams()
	tops := make([]broker.Position, len(streams))
	err := b.call(b.ctx, func(store *memory.Broker) error {
		for i, stream := range streams {
			page, err := store.Read(b.ctx, stream, broker.Query{Backwards: true, Limit: 1})
			if err != nil {
				return err
			}
			tops[i] = page.Top
		}
		return nil
	})
	if err != nil {
		return
	}
	for i, stream := range streams {
		b.tails.Compare(stream, tops[i])
	}
}

// compareAlways is compareAll now and always.
func (b *Broker) compareAlways() {
	b.spawn(func() {
		b.compareAll()
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.closed {
			b.comparing.Reset(always)
		}
	})
}

// searchAfter is compareAll after a time, unless that is about to happen.
func (b *Broker) searchAfter(wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed || b.sink == nil:
		return
	case wait == 0: // a timer that fires at once breaks the race detector in a bubble
		b.work.Go(b.compareAll)
		return
	case b.searching:
		return
	}
	b.searching = true
	time.AfterFunc(wait, func() {
		b.mu.Lock()
		b.searching = false
		b.mu.Unlock()
		b.spawn(b.compareAll)
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
	b.changes++
	if !yes {
		b.timer = time.AfterFunc(bound, func() { b.spawn(b.outage) })
		return
	}
	b.timer.Stop()
	changes := b.changes
	b.work.Go(func() { b.back(changes) })
}

// outage tells the Sink that the broker is cut off, if it still is.
func (b *Broker) outage() {
	b.telling.Lock()
	defer b.telling.Unlock()
	b.mu.Lock()
	tell := !b.reachable && !b.told
	b.told = b.told || tell
	b.mu.Unlock()
	if tell {
		b.sink.Cut(true)
	}
}

// back finds what was missed, and tells the Sink if the engine can be reached since that change.
func (b *Broker) back(changes int) {
	b.compareAll()
	b.telling.Lock()
	defer b.telling.Unlock()
	b.mu.Lock()
	tell := b.told && b.changes == changes
	b.told = b.told && !tell
	b.mu.Unlock()
	if tell {
		b.sink.Cut(false)
	}
}

// channels returns the streams and the subjects, each as often as it is in force.
func (b *Broker) channels() (all []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, in := range []map[string]int{b.streams, b.listens} {
		for name, n := range in {
			all = append(all, slices.Repeat([]string{name}, n)...)
		}
	}
	return all
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
		if wait := time.Until(next.at); wait > 0 {
			select {
			case <-time.After(wait):
			case <-b.ctx.Done():
				continue
			}
		}
		next.do()
	}
}
