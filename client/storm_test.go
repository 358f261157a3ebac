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

// Connections of readers and of a writer end again and again, in the middle of whatever they are
// at, and are slow, while others write. Of a room that keeps enough every reader gets everything,
// once and in order; of one that keeps little, or drops what is too much for a slow reader, what he
// does not get is told, and nothing else is.
func TestStorm(t *testing.T) {
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
			o := realtime.Options{History: keep, QueueMessages: 20, Slow: test.slow}
			var w *world
			o.OnConnect = func(ctx context.Context, c *realtime.Conn) error {
				if !isGiven(c.UserID()) {
					return nil
				}
				_, err := w.rt.Join(ctx, c.ID(), "lobby")
				return err
			}
			bubble(t, o, func(t *testing.T, made *world) {
				w = made
				s := newStorm(w, 1)
				s.rage(cuts, deliveries)
				s.calm()
				lost, recovered := s.check()
				t.Logf("%d messages, %d cuts, %d deliveries, %d recovered, %d lost within %d gaps",
					len(s.said), s.cuts(), s.deliveries(), recovered, lost, s.gaps())
				require.Positive(t, recovered)
				require.Equal(t, test.loses, lost > 0)
				require.Equal(t, test.loses, s.gaps() > 0)
			})
		})
	}
}

// storm is a room that keeps history, with its readers and writers.
type storm struct {
	w       *world
	random  *rand.Rand
	alice   *rig // writes, and is cut too
	writes  sync.WaitGroup
	readers []*follower

	mu   sync.Mutex
	said []told // what was accepted; in order behind calm
}

// told is what a reader is told: a message, or a gap if it has no text.
type told struct {
	text     string
	from, at uint64 // offsets; a gap is behind from, up to at
}

// follower is a reader.
type follower struct {
	*rig
	story []told
	got   int // messages
}

// stormReaders is how many, and stormBurst how many messages come at once, now and then.
const (
	stormReaders = 6
	stormBurst   = 30
)

// isGiven reports whether the application puts a reader into the room. The others join it.
func isGiven(user string) bool { return user == "reader0" || user == "reader1" }

func newStorm(w *world, seed uint64) *storm {
	s := &storm{w: w, random: rand.New(rand.NewPCG(seed, 0)), alice: w.dial("alice")}
	for i := range stormReaders {
		o := client.DialOptions{}
		if i%2 == 1 {
			o.QueueMessages = 10 // less than what comes at once
		}
		f := &follower{rig: w.deaf(fmt.Sprint("reader", i), o)}
		if !isGiven(fmt.Sprint("reader", i)) {
			f.join("lobby")
		}
		f.read.Go(f.follow)
		s.readers = append(s.readers, f)
	}
	bytes := rand.New(rand.NewPCG(seed, 1)) // seconds to minutes
	w.setWrap(func(c net.Conn) net.Conn {
		lazy := &lazy{Conn: c, random: rand.New(rand.NewPCG(seed, bytes.Uint64()))}
		return &fragile{Conn: lazy, left: 300 + bytes.IntN(1024<<bytes.IntN(8))}
	})
	w.cut()
	return s
}

// lazy is a connection that is not read for a while, now and then, but not for so long that the
// server gives it up.
type lazy struct {
	net.Conn
	random *rand.Rand
}

// Read is net.Conn.
func (l *lazy) Read(p []byte) (int, error) {
	if l.random.IntN(30) == 0 {
		time.Sleep(time.Duration(l.random.Int64N(int64(8 * time.Second))))
	}
	return l.Conn.Read(p)
}

func (f *follower) follow() {
	for msg, err := range f.Messages() {
		f.mu.Lock()
		gap, ok := err.(*client.GapError)
		switch {
		case ok && gap.Reason != "":
			f.story = append(f.story, told{from: gap.From.Offset, at: gap.To.Offset})
		case msg.Type == "chat":
			f.story = append(f.story, told{text: string(msg.Content), at: msg.Offset})
			f.got++
		}
		f.mu.Unlock()
	}
}

// rage goes on until there were enough cuts and deliveries.
func (s *storm) rage(cuts, deliveries int) {
	done := make(chan struct{})
	s.writes.Go(func() { s.write(done) })
	for n := 0; s.cuts() < cuts || s.deliveries() < deliveries; time.Sleep(time.Second) {
		last := n
		if s.random.IntN(20) == 0 {
			last += stormBurst
		}
		for ; n <= last; n++ {
			res, err := s.w.rt.Send(s.w.t.Context(), realtime.ToRoom("lobby"), chatOf("server", n))
			require.NoError(s.w.t, err)
			s.wrote(res.Position, "server", n)
		}
		switch s.random.IntN(100) {
		case 0:
			s.w.cut()
		case 1:
			user := fmt.Sprint("reader", s.random.IntN(stormReaders))
			for c := range s.w.rt.User(user).LocalConns() {
				_ = c.Close(realtime.CloseRestart, "")
			}
		}
	}
	close(done)
}

// write has alice write until done, one message after the other.
func (s *storm) write(done <-chan struct{}) {
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
		s.wrote(got.Position, "alice", n)
	}
}

func chatOf(who string, n int) realtime.Message {
	return realtime.Message{Type: "chat", Content: fmt.Appendf(nil, `"%s %d"`, who, n)}
}

func (s *storm) wrote(at realtime.Position, who string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, told{text: string(chatOf(who, n).Content), at: at.Offset})
}

// calm lets everybody come back, and get what is left.
func (s *storm) calm() {
	s.w.setWrap(nil)
	s.w.cut()
	s.writes.Wait()
	time.Sleep(2 * time.Minute)
	synctest.Wait()
	slices.SortFunc(s.said, func(a, b told) int { return cmp.Compare(a.at, b.at) })
}

// check compares what each reader was told with what was said, and returns how much was lost to
// them, and how much they say to have recovered.
func (s *storm) check() (lost, recovered int) {
	t := s.w.t
	for _, f := range s.readers {
		due := s.said
		for i, it := range f.story {
			for it.text == "" && len(due) > 0 && due[0].at <= it.at {
				require.Greater(t, due[0].at, it.from, "%s: no part of the gap %v", due[0].text, it)
				due = due[1:]
				lost++
			}
			if it.text != "" {
				require.NotEmpty(t, due)
				require.Equal(t, due[0], it, "lost, twice or out of order: %v", f.story[max(0, i-5):i+1])
				due = due[1:]
			}
		}
		require.Empty(t, due, "lost at the end")
		for _, line := range f.recovered() {
			var n int
			_, err := fmt.Sscanf(line, "lobby %d", &n)
			require.NoError(t, err)
			recovered += n
		}
	}
	return lost, recovered
}

// cuts returns how often a reader has come back.
func (s *storm) cuts() (n int) {
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

func (s *storm) deliveries() (n int) {
	for _, f := range s.readers {
		f.mu.Lock()
		n += f.got
		f.mu.Unlock()
	}
	return n
}

// gaps returns how many the readers were told of. It is for calm weather.
func (s *storm) gaps() (n int) {
	for _, f := range s.readers {
		n += len(f.story) - f.got
	}
	return n
}
