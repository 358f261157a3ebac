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
	stormReaders  = 5
	stormGiven    = 2 // of these the application puts into the room, the others join it
	stormPatience = 5 * time.Minute
)

// Readers in Node lose their connections again and again, while somebody writes. Of a room that
// keeps enough each gets everything, once and in order; of one that keeps little, what he does not
// get is told, and nothing else is.
func TestStorm(t *testing.T) {
	node := browser.Node(t)
	cuts, deliveries := long.Of(40, 40, 600), long.Of(4000, 4000, 60_000)
	for kept, ahead := range map[int][]uint64{1000: {20, 500}, 3: {2, 40}} {
		t.Run(fmt.Sprint("history ", kept), func(t *testing.T) {
			s := newStorm(t, node, kept)
			s.rage(cuts, deliveries, ahead)
			s.calm()
			lost := s.check()
			t.Logf("%d messages, %d cuts, %d deliveries, %d recovered, %d lost",
				len(s.said), s.cuts(), s.deliveries, s.recovered, lost)
			require.Equal(t, kept == 3, lost > 0)
			require.Positive(t, s.recovered)
			require.Greater(t, s.deliveries, s.recovered)
		})
	}
}

// storm is a room that keeps history, and its readers.
type storm struct {
	t       *testing.T
	site    *site
	network *flaky.Proxy
	random  *rand.Rand
	said    []told
	process sync.WaitGroup

	mu         sync.Mutex
	news       sync.Cond
	ended      bool // the process has
	readers    [stormReaders]follower
	joined     int
	opened     int
	deliveries int
	recovered  int
}

// told is what a reader is told: a message, or a gap if it has no text.
type told struct {
	text     string
	from, at uint64 // offsets; a gap is behind from, up to at
}

// follower is a reader.
type follower struct {
	story []told
	open  bool
}

// at returns up to which offset he has come.
func (f *follower) at() uint64 {
	if len(f.story) == 0 {
		return 0
	}
	return f.story[len(f.story)-1].at
}

func newStorm(t *testing.T, node []string, kept int) *storm {
	s := &storm{
		t: t, random: rand.New(rand.NewPCG(uint64(kept), 0)),
	}
	var rt atomic.Pointer[realtime.Manager]
	s.site = serveWith(t, realtime.Options{
		History: realtime.Retention{Messages: kept},
		OnConnect: func(ctx context.Context, c *realtime.Conn) error {
			if c.UserID() >= fmt.Sprint("reader", stormGiven) {
				return nil
			}
			_, err := rt.Load().Join(ctx, c.ID(), "lobby")
			return err
		},
	})
	rt.Store(s.site.rt)
	s.news.L = &s.mu
	s.network = flaky.New(t, s.site.addr())
	ctx, cancel := context.WithTimeout(t.Context(), stormPatience)
	args := append(node[1:], "storm.mjs", "ws://"+s.network.Addr+"/ws", fmt.Sprint(stormReaders), fmt.Sprint(stormGiven))
	cmd := exec.CommandContext(ctx, node[0], args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	s.process.Go(func() {
		for in := json.NewDecoder(out); s.hear(in); {
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, &stderr)
		}
		s.update(func() { s.ended = true })
	})
	t.Cleanup(func() { cancel(); s.process.Wait() })
	s.await(func() bool { return s.joined == stormReaders })
	return s
}

// hear takes in what the process says, and reports whether there was something.
func (s *storm) hear(in *json.Decoder) bool {
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
			f.story = append(f.story, told{line.Text, line.From, line.At})
			if line.Text != "" {
				s.deliveries++
			}
		}
		s.recovered += line.Recovered
	})
	return true
}

func (s *storm) update(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
	s.news.Broadcast()
}

// await waits until a condition holds.
func (s *storm) await(is func() bool) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !is() {
		require.False(s.t, s.ended, "the process has ended")
		s.news.Wait()
	}
}

// rage writes until there were enough cuts and deliveries: little ahead of the slowest reader, or
// much.
func (s *storm) rage(cuts, deliveries int, ahead []uint64) {
	lead := ahead[0]
	for n, next := 0, 0; s.cuts() < cuts || s.delivered() < deliveries; n++ {
		top := s.say(fmt.Sprint(n))
		s.await(func() bool { return top < s.slowest()+lead })
		if n >= next && s.cut() {
			next = n + 20 + s.random.IntN(100)
			lead = ahead[s.random.IntN(len(ahead))]
		}
	}
}

func (s *storm) say(text string) (at uint64) {
	content, err := json.Marshal(text)
	require.NoError(s.t, err)
	msg := realtime.Message{Type: "n", Content: content}
	res, err := s.site.rt.Send(s.t.Context(), realtime.ToRoom("lobby"), msg)
	require.NoError(s.t, err)
	s.said = append(s.said, told{text: text, at: res.Position.Offset})
	return res.Position.Offset
}

// slowest returns up to which offset all readers have come. s.mu is held.
func (s *storm) slowest() uint64 {
	at := s.readers[0].at()
	for i := range s.readers {
		at = min(at, s.readers[i].at())
	}
	return at
}

// cut ends all connections, if there are all, and reports whether it did.
func (s *storm) cut() bool {
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

// calm lets all readers come to the end, and end.
func (s *storm) calm() {
	s.say("last")
	s.process.Wait()
}

// check compares what each reader was told with what was said, and returns how much was lost to
// them.
func (s *storm) check() (lost int) {
	t := s.t
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
	}
	return lost
}

// cuts returns how often a reader has come back.
func (s *storm) cuts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened - stormReaders
}

func (s *storm) delivered() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deliveries
}
