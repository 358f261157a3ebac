// Package memengine connects brokers in one process as a server of Redis connects those of several
// processes, for tests: with delays, losses, cuts and lost data.
package memengine

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/memory"
)

// Engine keeps streams and passes on what brokers send. Its faults may be set at any time. It is
// safe for concurrent use.
type Engine struct {
	data  sync.RWMutex // held for reading while store is used, which takes no time
	store *memory.Broker

	mu     sync.Mutex
	faults Faults
	dice   *rand.Rand
	nodes  []*Broker
}

// Faults are what an Engine does wrong. The zero value does nothing wrong.
type Faults struct {
	// Delay is the longest time that a call takes, and its answer, and each thing passed on. What
	// goes to one channel keeps its order.
	Delay time.Duration
	// Loss is the part of what is passed on that is lost, from 0 to 1. After a moment a broker that
	// has lost something looks for what it has missed, as if its connection had broken.
	Loss float64
	// Down means that nobody can reach the engine.
	Down bool
}

// New returns an Engine without faults. Its faults depend on the seed.
func New(seed uint64) *Engine {
	e := &Engine{dice: rand.New(rand.NewPCG(seed, 0))}
	e.Forget()
	return e
}

// Broker returns a new broker on the engine, for one Manager.
func (e *Engine) Broker() *Broker {
	e.mu.Lock()
	defer e.mu.Unlock()
	b := newBroker(e)
	e.nodes = append(e.nodes, b)
	return b
}

// SetFaults sets the faults from now on.
func (e *Engine) SetFaults(f Faults) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults = f
	e.changed()
}

// Cut says whether a broker is cut off from the engine.
func (e *Engine) Cut(b *Broker, cut bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	b.cut = cut
	e.changed()
}

// Mute says whether nothing is passed on to a broker, although its calls are answered. At the end
// of that it looks for what it has missed, as after a new connection.
func (e *Engine) Mute(b *Broker, mute bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if b.mute = mute; !mute {
		b.searchAfter(0)
	}
}

// changed tells brokers that can or cannot reach the engine any more. e.mu is held.
func (e *Engine) changed() {
	for _, b := range e.nodes {
		b.setReachable(e.reachable(b))
	}
}

// reachable reports whether a broker can reach the engine. e.mu is held.
func (e *Engine) reachable(b *Broker) bool { return !b.cut && !e.faults.Down }

// check tells a broker whether it can reach the engine.
func (e *Engine) check(b *Broker) {
	e.mu.Lock()
	defer e.mu.Unlock()
	b.setReachable(e.reachable(b))
}

// Forget loses all data, as a server does that is started again without its files. The epochs of
// all streams are new, and the brokers connect again.
func (e *Engine) Forget() {
	ctx := context.Background()
	e.data.Lock()
	defer e.data.Unlock()
	if e.store != nil {
		_ = e.store.Close(ctx) // does not fail
	}
	e.store = memory.New(nil)
	_ = e.store.Open(ctx, (*store)(e)) // fails only the second time
	e.mu.Lock()
	nodes := slices.Clone(e.nodes)
	e.mu.Unlock()
	for _, b := range nodes {
		for _, channel := range b.channels() {
			_, _ = e.store.Subscribe(ctx, channel) // does not fail
		}
		b.searchAfter(0)
	}
}

// use calls do with the store of the engine.
func (e *Engine) use(do func(store *memory.Broker)) {
	e.data.RLock()
	defer e.data.RUnlock()
	do(e.store)
}

// Close frees the memory of the engine.
func (e *Engine) Close() {
	e.use(func(store *memory.Broker) { _ = store.Close(context.Background()) })
}

// leave forgets a broker.
func (e *Engine) leave(b *Broker) {
	e.use(func(store *memory.Broker) {
		e.mu.Lock()
		e.nodes = slices.DeleteFunc(e.nodes, func(other *Broker) bool { return other == b })
		e.mu.Unlock()
		for _, channel := range b.channels() {
			_ = store.Unsubscribe(context.Background(), channel) // fails if the engine is closed
		}
	})
}

// reach waits as long as a call takes. It returns ErrUnavailable if the broker cannot reach the
// engine.
func (e *Engine) reach(ctx context.Context, b *Broker) error {
	e.mu.Lock()
	delay := e.delay()
	e.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
		case <-b.ctx.Done():
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case b.ctx.Err() != nil:
		return broker.ErrClosed
	case !e.reachable(b):
		return broker.ErrUnavailable
	}
	return nil
}

// delay returns how long something takes. e.mu is held.
func (e *Engine) delay() time.Duration {
	if e.faults.Delay <= 0 {
		return 0
	}
	return time.Duration(e.dice.Int64N(int64(e.faults.Delay)))
}

// pass passes something on to the brokers that have joined a channel, except one. It returns their
// number.
func (e *Engine) pass(channel string, from *Broker, do func(to *Broker) func()) (receivers int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, b := range e.nodes {
		if b == from || b.mute || !e.reachable(b) || !b.joined(channel) {
			continue
		}
		receivers++
		if e.dice.Float64() < e.faults.Loss {
			b.searchAfter(noticed)
			continue
		}
		b.post(channel, e.delay(), do(b))
	}
	return receivers
}

// store is an Engine as the Sink of the broker that keeps its streams. That holds the lock of the
// stream during Deliver, so the order is right.
type store Engine

// Deliver passes a publication on. It is plain data, like that of another process, except for its
// origin.
func (s *store) Deliver(p broker.Publication) {
	mine := p.Origin.(*own)
	p.Origin = nil
	if p.Stream == "" {
		p.Origin = mine.origin
		mine.by.sink.Deliver(p)
		return
	}
	data, err := p.AppendBinary(nil)
	if err != nil {
		panic(err) // by a test
	}
	mine.taken = p
	mine.by.remember(mine)
	(*Engine)(s).pass(p.Stream, nil, func(to *Broker) func() {
		return func() { to.arrived(decoded(p.Stream, data)) }
	})
}

// decoded returns a publication to a stream as another process gets it.
func decoded(stream string, data []byte) (p broker.Publication) {
	if err := p.UnmarshalBinary(data); err != nil {
		panic(err)
	}
	p.Stream = stream // JSON has no names that are not UTF-8
	return p
}

func (*store) Lost(string) {}

func (*store) Receive(string, []byte) {}

func (*store) Cut(bool) {}
