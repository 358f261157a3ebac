package redis

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/ratelog"
	"github.com/realtime-go/realtime/internal/tail"
)

const (
	// grace is how long Close waits for calls before it ends them.
	grace = time.Second
	// quiet is how long nothing is logged after the same line.
	quiet = 10 * time.Second
)

// Broker is a [broker.Bus] on Redis. It is safe for concurrent use.
type Broker struct {
	options         Options
	names           names
	durable, forget string // arguments of scripts
	node            uint64 // identifies this Broker among all

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	gate   *gate          // of calls
	work   sync.WaitGroup // goroutines

	connected chan struct{}  // closed when client is set
	client    rueidis.Client // not before connected

	sink     broker.Sink
	tails    *tail.Tails
	interest *interests
	links    []*link // one, or one for each bucket of a Redis Cluster
	flights  *flights
	compare  *comparer
	cut      *cutoff
	log      *ratelog.Logger

	mu     sync.Mutex // guards opened, and work against Close
	opened bool
	closed bool
}

var _ broker.Bus = (*Broker)(nil)

// New returns a Broker that is not connected yet. Nil means the default options. One Broker serves
// one Manager, which closes it.
func New(o *Options) (*Broker, error) {
	r, err := o.resolved()
	if err != nil {
		return nil, err
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // does not fail
	b := &Broker{
		options: r, names: newNames(r.Prefix, r.Buckets), node: binary.BigEndian.Uint64(id[:]),
		durable: "0", forget: strconv.FormatInt(r.ForgetAfter.Microseconds(), 10),
		connected: make(chan struct{}), gate: newGate(), interest: newInterests(),
		flights: newFlights(), log: ratelog.New(r.Logger, quiet),
	}
	if r.Durable {
		b.durable = "1"
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	n := 1
	if r.Cluster {
		n = r.Buckets
	}
	for i := range n {
		b.links = append(b.links, newLink(b, i))
	}
	b.compare = newComparer(b)
	b.cut = newCutoff(b)
	return b, nil
}

// Open starts to connect, and returns.
func (b *Broker) Open(_ context.Context, s broker.Sink) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return errClosed
	case b.opened:
		return errors.New("redis: the broker serves another Manager")
	}
	b.opened = true
	b.sink = s
	b.tails = tail.New(tail.Config{Sink: s, Read: b.readTail, Go: b.spawn, Context: b.ctx})
	b.work.Go(b.connect)
	b.work.Go(b.compare.run)
	b.cut.begin()
	for _, l := range b.links {
		b.work.Go(l.run)
	}
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

// begin begins a call. It returns a context with the timeout of the broker, and what ends the call.
func (b *Broker) begin(outer context.Context) (ctx context.Context, end func(), err error) {
	if outer.Err() != nil {
		return nil, nil, context.Cause(outer)
	}
	if !b.gate.enter() {
		return nil, nil, errClosed
	}
	if err := b.cut.err(); err != nil {
		b.gate.leave()
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeoutCause(outer, b.options.Timeout, errTimeout)
	stop := context.AfterFunc(b.ctx, cancel)
	return ctx, func() { stop(); cancel(); b.gate.leave() }, nil
}

// Close ends delivery and the connections. It does not wait for the server longer than a second.
func (b *Broker) Close(ctx context.Context) error {
	if !b.gate.close() {
		return errClosed
	}
	select {
	case <-b.gate.empty:
	case <-ctx.Done():
	case <-time.After(grace):
	}
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.cut.end()
		<-b.gate.empty
		if b.tails != nil {
			b.tails.Close()
		}
		b.work.Wait()
		select {
		case <-b.connected:
			b.client.Close()
		default:
		}
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
