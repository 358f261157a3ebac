package brokertest

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

// patience is how long a test waits for an event.
const patience = 20 * time.Second

// stage is a broker with a Sink that records its deliveries.
type stage struct {
	t *testing.T
	b broker.Broker

	mu  sync.Mutex
	got []broker.Publication
	on  func(p broker.Publication) // called by Deliver, if not nil
}

func newStage(t *testing.T, b broker.Broker) *stage {
	s := &stage{t: t, b: b}
	require.NoError(t, b.Open(t.Context(), s))
	t.Cleanup(func() { _ = s.close() })
	return s
}

func (s *stage) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return s.b.Close(ctx)
}

// Deliver implements [broker.Sink].
func (s *stage) Deliver(p broker.Publication) {
	s.mu.Lock()
	s.got = append(s.got, p)
	on := s.on
	s.mu.Unlock()
	if on != nil {
		on(p)
	}
}

// Lost implements [broker.Sink]. No test of a broker of one process may lose a publication.
func (s *stage) Lost(stream string) { s.t.Errorf("brokertest: Lost(%q)", stream) }

// Receive implements [broker.Sink]. A broker that is no Bus does not call it.
func (s *stage) Receive(subject string, _ []byte) { s.t.Errorf("brokertest: Receive(%q)", subject) }

// Cut implements [broker.Sink].
func (s *stage) Cut(cut bool) { s.t.Errorf("brokertest: Cut(%v)", cut) }

// delivered returns the publications of a stream that were delivered.
func (s *stage) delivered(stream string) []broker.Publication {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []broker.Publication
	for _, p := range s.got {
		if p.Stream == stream {
			all = append(all, p)
		}
	}
	return all
}

// plenty returns bounds that no test reaches by accident.
func plenty() broker.Retention { return broker.Retention{Messages: 100_000} }

// note returns a publication whose content is a number.
func note(stream string, n int) broker.Publication {
	return broker.Publication{
		Stream: stream, Target: broker.Target{Rooms: []string{"lobby"}}, Keep: plenty(),
		Message: broker.Message{
			Type: "chat", Sender: "alice", Content: json.RawMessage(strconv.Itoa(n)),
		},
	}
}

// number returns the content of a note.
func number(t *testing.T, p broker.Publication) int {
	n, err := strconv.Atoi(string(p.Message.Content))
	require.NoError(t, err)
	return n
}

func numbers(t *testing.T, all []broker.Publication) []int {
	ns := make([]int, len(all))
	for i := range all {
		ns[i] = number(t, all[i])
	}
	return ns
}

func offsets(all []broker.Publication) []uint64 {
	at := make([]uint64, len(all))
	for i := range all {
		at[i] = all[i].Position.Offset
	}
	return at
}

// one returns the result of a single publication.
func one(out []broker.Published, err error) (broker.Published, error) {
	if err == nil && len(out) != 1 {
		err = fmt.Errorf("brokertest: Publish of one part returned %d results", len(out))
	}
	if err != nil {
		return broker.Published{}, err
	}
	return out[0], nil
}

// publish publishes p and requires success.
func (s *stage) publish(p broker.Publication) broker.Published {
	s.t.Helper()
	out, err := one(s.b.Publish(s.t.Context(), p))
	require.NoError(s.t, err)
	return out
}

// fill publishes the notes 1 to n and returns their positions.
func (s *stage) fill(stream string, n int) []broker.Position {
	s.t.Helper()
	at := make([]broker.Position, n)
	for i := range at {
		at[i] = s.publish(note(stream, i+1)).Position
	}
	return at
}

func (s *stage) subscribe(stream string) broker.Position {
	s.t.Helper()
	at, err := s.b.Subscribe(s.t.Context(), stream)
	require.NoError(s.t, err)
	return at
}

func (s *stage) unsubscribe(stream string) {
	s.t.Helper()
	require.NoError(s.t, s.b.Unsubscribe(s.t.Context(), stream))
}

func (s *stage) read(stream string, q broker.Query) broker.Page {
	s.t.Helper()
	page, err := s.b.Read(s.t.Context(), stream, q)
	require.NoError(s.t, err)
	return page
}

// prev returns the offset before the newest publication of a stream.
func (s *stage) prev(stream string) uint64 {
	s.t.Helper()
	page := s.read(stream, broker.Query{Backwards: true, Limit: 1})
	require.Len(s.t, page.Publications, 1)
	return page.Publications[0].Prev
}

// all reads a stream to its end, page by page.
func (s *stage) all(stream string) []broker.Publication {
	s.t.Helper()
	var all []broker.Publication
	var after uint64
	for {
		page := s.read(stream, broker.Query{After: after, Limit: 1000, Bytes: 1 << 20})
		all = append(all, page.Publications...)
		if !page.More {
			return all
		}
		require.NotEmpty(s.t, page.Publications, "a page with More is not empty")
		after = all[len(all)-1].Position.Offset
	}
}

// eventually waits until done returns true.
func (s *stage) eventually(what string, done func() bool) {
	s.t.Helper()
	require.Eventually(s.t, done, patience, 5*time.Millisecond, what)
}
