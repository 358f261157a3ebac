package brokertest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

const (
	// bound is how long a call of a Bus may block, and how long it may take to find what it has
	// missed, with some time for a slow machine.
	bound = 5*time.Second + slack
	slack = 3 * time.Second
)

// group is several brokers on one engine.
type group struct {
	t *testing.T
	Shared
	nodes []*node
}

// node is a broker of a group, with a Sink that records its calls.
type node struct {
	*stage
	bus broker.Bus
	id  string

	calls    int                 // of callsOfBus
	losses   map[string][]int    // for each stream: how many publications were delivered before
	received map[string][][]byte // for each subject
	cuts     []bool
}

// open returns another broker, which is open.
func (g *group) open() *node {
	g.t.Helper()
	b := g.Broker(g.t)
	n := &node{
		stage: &stage{t: g.t, b: b}, bus: b, id: strconv.Itoa(len(g.nodes)),
		losses: map[string][]int{}, received: map[string][][]byte{},
	}
	g.nodes = append(g.nodes, n)
	began := time.Now()
	require.NoError(g.t, b.Open(g.t.Context(), n))
	require.Less(g.t, time.Since(began), bound, "Open does not wait for the engine")
	return n
}

// openAll returns brokers that have reached the engine and are subscribed to a stream.
func (g *group) openAll(n int, stream string) []*node {
	g.t.Helper()
	for range n {
		g.open().subscribeNow(stream)
	}
	return g.nodes
}

func (g *group) close() {
	var all sync.WaitGroup
	for _, n := range g.nodes {
		all.Go(func() { _ = n.close() })
	}
	all.Wait()
}

// Lost implements [broker.Sink].
func (n *node) Lost(stream string) {
	before := len(n.delivered(stream))
	n.mu.Lock()
	defer n.mu.Unlock()
	n.losses[stream] = append(n.losses[stream], before)
}

// Receive implements [broker.Sink].
func (n *node) Receive(subject string, data []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.received[subject] = append(n.received[subject], bytes.Clone(data))
	for i := range data {
		data[i] = 'x' // it is its own
	}
}

// Cut implements [broker.Sink].
func (n *node) Cut(cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cuts = append(n.cuts, cut)
}

// lost returns how many publications of a stream were delivered before each call of Lost.
func (n *node) lost(stream string) []int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.losses[stream])
}

// wasCut returns the calls of Cut.
func (n *node) wasCut() []bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.cuts)
}

// texts returns what was received of a subject.
func (n *node) texts(subject string) (all []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, data := range n.received[subject] {
		all = append(all, string(data))
	}
	return all
}

// soon waits until done returns true, which a Bus promises within its bound.
func (g *group) soon(what string, done func() bool) {
	g.t.Helper()
	require.Eventually(g.t, done, bound, 5*time.Millisecond, what)
}

// settle waits until all nodes have delivered a stream up to its end.
func (g *group) settle(stream string) {
	g.t.Helper()
	top := g.nodes[0].read(stream, broker.Query{Limit: 1}).Top
	for _, n := range g.nodes {
		g.soon("node "+n.id+" has delivered "+stream+" to its end", func() bool {
			all := n.delivered(stream)
			return len(all) > 0 && all[len(all)-1].Position == top
		})
	}
}

// requireWhole requires that all nodes have delivered the whole stream, in its order.
func (g *group) requireWhole(stream string) {
	g.t.Helper()
	for _, n := range g.nodes {
		require.Empty(g.t, n.lost(stream), "node %s", n.id)
		n.requireChain(stream)
	}
}

// requireChain requires that a stream was delivered as it is kept.
func (s *stage) requireChain(stream string) (read []broker.Publication) {
	s.t.Helper()
	read = s.all(stream)
	delivered := s.delivered(stream)
	require.Equal(s.t, offsets(read), offsets(delivered), stream)
	before := uint64(0)
	for i, p := range read {
		require.Equal(s.t, p.Message, delivered[i].Message)
		require.Equal(s.t, before, p.Prev)
		before = p.Position.Offset
	}
	return read
}

// insist calls again what fails because the engine cannot be reached.
func (n *node) insist(what string, call func() error) {
	n.t.Helper()
	var err error
	began := time.Now()
	for time.Since(began) < patience {
		if err = call(); !errors.Is(err, broker.ErrUnavailable) {
			break
		}
		pause()
	}
	require.NoError(n.t, err, what)
}

// pause lets a moment pass between two attempts.
func pause() { <-time.After(5 * time.Millisecond) }

// publishAtLast publishes p, which has an id, again until there is an answer.
func (n *node) publishAtLast(p broker.Publication) (out broker.Published) {
	n.t.Helper()
	n.insist("publish", func() (err error) {
		out, err = one(n.b.Publish(n.t.Context(), p))
		return err
	})
	return out
}

// subscribeNow subscribes as soon as the engine can be reached.
func (n *node) subscribeNow(stream string) (at broker.Position) {
	n.t.Helper()
	n.insist("subscribe", func() (err error) {
		at, err = n.b.Subscribe(n.t.Context(), stream)
		return err
	})
	return at
}

// send sends data and returns the number of receivers, or the wanted one if it is unknown.
func (n *node) send(data string, want int, subjects ...string) int {
	n.t.Helper()
	got, err := n.bus.Send(n.t.Context(), []byte(data), subjects...)
	require.NoError(n.t, err)
	if got < 0 {
		return want
	}
	return got
}

func (n *node) listen(subject string) {
	n.t.Helper()
	require.NoError(n.t, n.bus.Listen(n.t.Context(), subject))
}

func (n *node) unlisten(subject string) {
	n.t.Helper()
	require.NoError(n.t, n.bus.Unlisten(n.t.Context(), subject))
}

// callsOfBus calls all methods that need the engine, at the same time, and returns their errors and
// how long the slowest took. at is a position of the stream.
func (n *node) callsOfBus(
	ctx context.Context, stream string, at broker.Position,
) (errs map[string]error, slowest time.Duration) {
	n.calls++ // a Listen that is in force need not ask the engine again
	calls := map[string]func() error{
		"Publish": func() error { _, err := n.b.Publish(ctx, note(stream, 1)); return err },
		"Read":    func() error { _, err := n.b.Read(ctx, stream, broker.Query{}); return err },
		"Cursor":  func() error { _, err := n.b.Cursor(ctx, stream, "r"); return err },
		"Ack":     func() error { return n.b.Ack(ctx, stream, "r", at) },
		"Listen":  func() error { return n.bus.Listen(ctx, stream+"/"+strconv.Itoa(n.calls)) },
		"Send":    func() error { _, err := n.bus.Send(ctx, []byte("x"), stream); return err },
		"Subscribe": func() error {
			_, err := n.b.Subscribe(ctx, stream+"/subscribe")
			return err
		},
	}
	errs = make(map[string]error, len(calls))
	var mu sync.Mutex
	var all sync.WaitGroup
	for name, call := range calls {
		all.Go(func() {
			began := time.Now()
			err := call()
			mu.Lock()
			defer mu.Unlock()
			errs[name], slowest = err, max(slowest, time.Since(began))
		})
	}
	all.Wait()
	return errs, slowest
}
