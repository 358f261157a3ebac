package redis_test

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/redis"
)

// patience is how long a test waits for an event.
const patience = 20 * time.Second

// node is a broker with a Sink that records what it gets.
type node struct {
	*redis.Broker
	t  *testing.T
	at broker.Position

	mu       sync.Mutex
	got      []broker.Publication
	lost     []string
	received []string // subject, "=" and data
	cuts     []bool
}

// join returns a broker on a server. It closes with the test.
func join(t *testing.T, o *redis.Options) *node {
	t.Helper()
	b, err := redis.New(o)
	require.NoError(t, err)
	n := &node{Broker: b, t: t}
	require.NoError(t, b.Open(t.Context(), n))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = b.Close(ctx)
	})
	return n
}

func (n *node) Deliver(p broker.Publication) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.got = append(n.got, p)
}

func (n *node) Lost(stream string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lost = append(n.lost, stream)
}

func (n *node) Receive(subject string, data []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.received = append(n.received, subject+"="+string(data))
}

func (n *node) Cut(cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cuts = append(n.cuts, cut)
}

// delivered returns the contents that were delivered of a stream.
func (n *node) delivered(stream string) (words []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.got {
		if p.Stream == stream {
			words = append(words, string(p.Message.Content))
		}
	}
	return words
}

func (n *node) losses() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.lost)
}

func (n *node) receipts() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.received)
}

func (n *node) isCut() []bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.cuts)
}

// note returns a publication whose content is a number.
func note(stream string, i int) broker.Publication {
	return broker.Publication{
		Stream: stream, Keep: broker.Retention{Messages: 100_000},
		Message: broker.Message{Type: "chat", Sender: "alice", Content: json.RawMessage(strconv.Itoa(i))},
	}
}

func (n *node) publish(p broker.Publication) broker.Published {
	n.t.Helper()
	out, err := n.Publish(n.t.Context(), p)
	require.NoError(n.t, err)
	return out[0]
}

func (n *node) subscribe(stream string) broker.Position {
	n.t.Helper()
	at, err := n.Subscribe(n.t.Context(), stream)
	require.NoError(n.t, err)
	return at
}

func (n *node) page(stream string, q broker.Query) broker.Page {
	n.t.Helper()
	page, err := n.Read(n.t.Context(), stream, q)
	require.NoError(n.t, err)
	return page
}

func contents(page broker.Page) (words []string) {
	for _, p := range page.Publications {
		words = append(words, string(p.Message.Content))
	}
	return words
}

func eventually(t testing.TB, done func() bool, what ...any) {
	t.Helper()
	require.Eventually(t, done, patience, 5*time.Millisecond, what...)
}
