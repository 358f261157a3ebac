package client_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
	"github.com/realtime-go/realtime/internal/long"
)

// TestRecoveryStress tests the recovery of readers whose connections are slow and end at any time,
// while others send. In a room that keeps enough messages every reader receives all of them once
// and in order. In a room that keeps few, or drops messages for slow readers, every lost message is
// reported, and no other.
func TestRecoveryStress(t *testing.T) {
	cuts, deliveries := long.Of(40, 40, 600), long.Of(4000, 4000, 60_000)
	for name, test := range map[string]struct {
		kept  int
		slow  realtime.SlowPolicy
		loses bool
	}{
		"history 1000": {kept: 1000},
		"history 3":    {kept: 3, loses: true},
		"drop newest":  {kept: 1000, slow: realtime.SlowDropNewest, loses: true},
		"drop oldest":  {kept: 1000, slow: realtime.SlowDropOldest, loses: true},
	} {
		t.Run(name, func(t *testing.T) {
			keep := realtime.Retention{Messages: test.kept}
			o := realtime.Options{History: keep, Limits: realtime.Limits{QueueMessages: 20}, Slow: test.slow}
			var w *testEnv
			o.OnConnect = func(ctx context.Context, c *realtime.Conn) error {
				if !isAddedByServer(c.UserID()) {
					return nil
				}
				_, err := w.rt.Join(ctx, c.ID(), "lobby")
				return err
			}
			withManager(t, o, func(t *testing.T, made *testEnv) {
				w = made
				s := newStressRun(w, 1)
				s.run(cuts, deliveries)
				s.settle()
				lost, recovered := s.check()
				t.Logf("%d messages, %d cuts, %d deliveries, %d recovered, %d lost within %d gaps",
					len(s.published), s.reconnects(), s.deliveries(), recovered, lost, s.gaps())
				require.Positive(t, recovered)
				require.Equal(t, test.loses, lost > 0)
				require.Equal(t, test.loses, s.gaps() > 0)
			})
		})
	}
}

// stressRun is a room that keeps history, with its readers and senders.
type stressRun struct {
	w       *testEnv
	random  *rand.Rand
	alice   *testClient // also sends, and also loses connections
	writes  sync.WaitGroup
	readers []*storyReader

	mu        sync.Mutex
	published []event // accepted messages; sorted by settle
}

// event is a message that a reader has received, or a gap if text is empty.
type event struct {
	text     string
	from, at uint64 // offsets; a gap has the messages after from up to at
}

// storyReader is a client that records its messages and gaps.
type storyReader struct {
	*testClient
	events []event
	got    int // number of messages
}

// stressReaders is the number of readers. stressBurst is the number of messages that are sometimes
// sent at once.
const (
	stressReaders = 6
	stressBurst   = 30
)

// isAddedByServer reports whether the application adds a reader to the room. The others join it.
func isAddedByServer(user string) bool { return user == "reader0" || user == "reader1" }

func newStressRun(w *testEnv, seed uint64) *stressRun {
	s := &stressRun{w: w, random: rand.New(rand.NewPCG(seed, 0)), alice: w.dial("alice")}
	for i := range stressReaders {
		o := client.DialOptions{}
		if i%2 == 1 {
			o.QueueMessages = 10 // fewer than a burst
		}
		f := &storyReader{testClient: w.dialPaused(fmt.Sprint("reader", i), o)}
		if !isAddedByServer(fmt.Sprint("reader", i)) {
			f.join("lobby")
		}
		f.reading.Go(f.readAll)
		s.readers = append(s.readers, f)
	}
	bytes := rand.New(rand.NewPCG(seed, 1)) // a connection lasts from seconds to minutes
	w.wrapConns(func(c net.Conn) net.Conn {
		lazy := &pausingConn{Conn: c, random: rand.New(rand.NewPCG(seed, bytes.Uint64()))}
		return &breakingConn{Conn: lazy, remaining: 300 + bytes.IntN(1024<<bytes.IntN(8))}
	})
	w.cutAll()
	return s
}

// pausingConn is a connection whose reads sometimes pause, but not for so long that the server ends
// the connection.
type pausingConn struct {
	net.Conn
	random *rand.Rand
}

// Read implements net.Conn.
func (l *pausingConn) Read(p []byte) (int, error) {
	if l.random.IntN(30) == 0 {
		time.Sleep(time.Duration(l.random.Int64N(int64(8 * time.Second))))
	}
	return l.Conn.Read(p)
}

func (f *storyReader) readAll() {
	for msg, err := range f.Messages() {
		f.mu.Lock()
		gap, ok := err.(*client.GapError)
		switch {
		case ok && gap.Reason != "":
			f.events = append(f.events, event{from: gap.From.Offset, at: gap.To.Offset})
		case msg.Type == "chat":
			f.events = append(f.events, event{text: string(msg.Content), at: msg.Offset})
			f.got++
		}
		f.mu.Unlock()
	}
}

// run sends messages and ends connections until there were enough reconnects and deliveries.
func (s *stressRun) run(cuts, deliveries int) {
	done := make(chan struct{})
	s.writes.Go(func() { s.write(done) })
	for n := 0; s.reconnects() < cuts || s.deliveries() < deliveries; time.Sleep(time.Second) {
		last := n
		if s.random.IntN(20) == 0 {
			last += stressBurst
		}
		for ; n <= last; n++ {
			res, err := s.w.rt.Send(s.w.t.Context(), realtime.ToRoom("lobby"), chatOf("server", n))
			require.NoError(s.w.t, err)
			s.notePublished(res.Position, "server", n)
		}
		switch s.random.IntN(100) {
		case 0:
			s.w.cutAll()
		case 1:
			user := fmt.Sprint("reader", s.random.IntN(stressReaders))
			for c := range s.w.rt.User(user).LocalConns() {
				_ = c.Close(realtime.CloseRestart, "")
			}
		}
	}
	close(done)
}

// write sends messages of alice, one after the other, until done is closed.
func (s *stressRun) write(done <-chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-done:
			return
		case <-time.After(4 * time.Second):
		}
		msg := chatOf("alice", n)
		got, err := s.alice.SendReceipt(context.Background(), realtime.ToRoom("lobby"), msg)
		if err != nil {
			s.w.t.Errorf("alice %d: %v", n, err)
			return
		}
		s.notePublished(got.Position, "alice", n)
	}
}

func chatOf(who string, n int) realtime.Message {
	return realtime.Message{Type: "chat", Content: fmt.Appendf(nil, `"%s %d"`, who, n)}
}

func (s *stressRun) notePublished(at realtime.Position, who string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.published = append(s.published, event{text: string(chatOf(who, n).Content), at: at.Offset})
}

// settle waits until all clients have reconnected and have received the remaining messages.
func (s *stressRun) settle() {
	s.w.wrapConns(nil)
	s.w.cutAll()
	s.writes.Wait()
	time.Sleep(2 * time.Minute)
	synctest.Wait()
	slices.SortFunc(s.published, func(a, b event) int { return cmp.Compare(a.at, b.at) })
}

// check compares what each reader received with the published messages. It returns the number of
// lost messages and the number of messages that were reported as recovered.
func (s *stressRun) check() (lost, recovered int) {
	t := s.w.t
	for _, f := range s.readers {
		due := s.published
		for i, it := range f.events {
			for it.text == "" && len(due) > 0 && due[0].at <= it.at {
				require.Greater(t, due[0].at, it.from, "%s: not in the gap %v", due[0].text, it)
				due = due[1:]
				lost++
			}
			if it.text != "" {
				require.NotEmpty(t, due)
				require.Equal(t, due[0], it, "lost, duplicate or out of order: %v", f.events[max(0, i-5):i+1])
				due = due[1:]
			}
		}
		require.Empty(t, due, "messages are lost at the end")
		for _, line := range f.takeRecoveries() {
			var n int
			_, err := fmt.Sscanf(line, "lobby %d", &n)
			require.NoError(t, err)
			recovered += n
		}
	}
	return lost, recovered
}

// reconnects returns the number of reconnects of all readers.
func (s *stressRun) reconnects() (n int) {
	for _, f := range s.readers {
		f.mu.Lock()
		for _, state := range f.states {
			if state.Phase == client.Open {
				n++
			}
		}
		f.mu.Unlock()
	}
	return n - len(s.readers)
}

func (s *stressRun) deliveries() (n int) {
	for _, f := range s.readers {
		f.mu.Lock()
		n += f.got
		f.mu.Unlock()
	}
	return n
}

// gaps returns the number of gaps of all readers. It must not be called before settle.
func (s *stressRun) gaps() (n int) {
	for _, f := range s.readers {
		n += len(f.events) - f.got
	}
	return n
}
