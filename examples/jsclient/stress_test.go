package jsclient

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/examples/internal/browser"
	"github.com/realtime-go/realtime/examples/internal/flaky"
	"github.com/realtime-go/realtime/internal/long"
)

const (
	stressReaders = 5
	addedReaders  = 2 // the application adds these to the room, the others join it
	stressTimeout = 5 * time.Minute
)

// TestRecoveryStress tests the recovery of clients in Node whose connections end again and again,
// while messages are sent. In a room that keeps enough messages every client receives all of them
// once and in order. In a room that keeps few, every lost message is reported, and no other.
func TestRecoveryStress(t *testing.T) {
	node := browser.Node(t)
	cuts, deliveries := long.Of(40, 40, 600), long.Of(4000, 4000, 60_000)
	for kept, ahead := range map[int][]uint64{1000: {20, 500}, 3: {2, 40}} {
		t.Run(fmt.Sprint("history ", kept), func(t *testing.T) {
			s := newStressRun(t, node, kept)
			s.run(cuts, deliveries, ahead)
			s.finish()
			lost := s.check()
			t.Logf("%d messages, %d cuts, %d deliveries, %d recovered, %d lost",
				len(s.published), s.reconnects(), s.deliveries, s.recovered, lost)
			require.Equal(t, kept == 3, lost > 0)
			require.Positive(t, s.recovered)
			require.Greater(t, s.deliveries, s.recovered)
		})
	}
}

// stressRun is a room that keeps history, with its readers.
type stressRun struct {
	t         *testing.T
	site      *site
	network   *flaky.Proxy
	random    *rand.Rand
	published []event
	process   sync.WaitGroup

	mu         sync.Mutex
	changed    sync.Cond
	ended      bool // the process has ended
	readers    [stressReaders]reader
	joined     int
	opened     int
	deliveries int
	recovered  int
}

// event is a message that a reader has received, or a gap if text is empty.
type event struct {
	text     string
	from, at uint64 // offsets; a gap has the messages after from up to at
}

// reader records the events of one client.
type reader struct {
	events []event
	open   bool
}

// at returns the offset of the last event.
func (f *reader) at() uint64 {
	if len(f.events) == 0 {
		return 0
	}
	return f.events[len(f.events)-1].at
}

func newStressRun(t *testing.T, node []string, kept int) *stressRun {
	s := &stressRun{
		t: t, random: rand.New(rand.NewPCG(uint64(kept), 0)),
	}
	var rt atomic.Pointer[realtime.Manager]
	s.site = startSiteWith(t, realtime.Options{
		History: realtime.Retention{Messages: kept},
		OnConnect: func(ctx context.Context, c *realtime.Conn) error {
			if c.UserID() >= fmt.Sprint("reader", addedReaders) {
				return nil
			}
			_, err := rt.Load().Join(ctx, c.ID(), "lobby")
			return err
		},
	})
	rt.Store(s.site.rt)
	s.changed.L = &s.mu
	s.network = flaky.New(t, s.site.addr())
	ctx, cancel := context.WithTimeout(t.Context(), stressTimeout)
	args := append(node[1:], "readers.mjs", "ws://"+s.network.Addr+"/ws", fmt.Sprint(stressReaders), fmt.Sprint(addedReaders))
	cmd := exec.CommandContext(ctx, node[0], args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	s.process.Go(func() {
		for in := json.NewDecoder(out); s.readLine(in); {
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, &stderr)
		}
		s.update(func() { s.ended = true })
	})
	t.Cleanup(func() { cancel(); s.process.Wait() })
	s.await(func() bool { return s.joined == stressReaders })
	return s
}

// readLine reads a line of the process. It reports whether there was one.
func (s *stressRun) readLine(in *json.Decoder) bool {
	var line struct {
		Reader    int
		Open      bool
		First     bool
		Text      string
		From, At  uint64
		Recovered int
	}
	if in.Decode(&line) != nil {
		return false
	}
	s.update(func() {
		f := &s.readers[line.Reader]
		switch {
		case line.Open:
			f.open = true
			s.opened++
		case line.First:
			s.joined++
		case line.At > 0:
			f.events = append(f.events, event{line.Text, line.From, line.At})
			if line.Text != "" {
				s.deliveries++
			}
		}
		s.recovered += line.Recovered
	})
	return true
}

func (s *stressRun) update(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
	s.changed.Broadcast()
}

// await waits until a condition holds.
func (s *stressRun) await(is func() bool) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !is() {
		require.False(s.t, s.ended, "the process has ended")
		s.changed.Wait()
	}
}

// run sends messages until there were enough reconnects and deliveries. ahead has the numbers of
// messages by which the sender may be ahead of the slowest reader.
func (s *stressRun) run(cuts, deliveries int, ahead []uint64) {
	lead := ahead[0]
	for n, next := 0, 0; s.reconnects() < cuts || s.delivered() < deliveries; n++ {
		top := s.publish(fmt.Sprint(n))
		s.await(func() bool { return top < s.slowest()+lead })
		if n >= next && s.cut() {
			next = n + 20 + s.random.IntN(100)
			lead = ahead[s.random.IntN(len(ahead))]
		}
	}
}

func (s *stressRun) publish(text string) (at uint64) {
	content, err := json.Marshal(text)
	require.NoError(s.t, err)
	msg := realtime.Message{Type: "n", Content: content}
	res, err := s.site.rt.Send(s.t.Context(), realtime.ToRoom("lobby"), msg)
	require.NoError(s.t, err)
	s.published = append(s.published, event{text: text, at: res.Position.Offset})
	return res.Position.Offset
}

// slowest returns the lowest offset of all readers. s.mu is held.
func (s *stressRun) slowest() uint64 {
	at := s.readers[0].at()
	for i := range s.readers {
		at = min(at, s.readers[i].at())
	}
	return at
}

// cut closes all connections if every reader has one. It reports whether it did.
func (s *stressRun) cut() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.readers {
		if !s.readers[i].open {
			return false
		}
	}
	for i := range s.readers {
		s.readers[i].open = false
	}
	s.network.Cut()
	return true
}

// finish sends the last message and waits until all readers have received it and the process ends.
func (s *stressRun) finish() {
	s.publish("last")
	s.process.Wait()
}

// check compares what each reader received with the published messages. It returns the number of
// lost messages.
func (s *stressRun) check() (lost int) {
	t := s.t
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
	}
	return lost
}

// reconnects returns the number of reconnects of all readers.
func (s *stressRun) reconnects() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened - stressReaders
}

func (s *stressRun) delivered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deliveries
}
