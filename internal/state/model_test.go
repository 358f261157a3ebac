package state

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/long"
	"github.com/realtime-go/realtime/internal/wire"
)

// source decides what a walk does: a random generator, or the bytes of a fuzz test.
type source interface{ IntN(n int) int }

// script is a source that reads bytes. After the last one it returns zero.
type script struct{ steps []byte }

func (s *script) IntN(n int) int {
	if len(s.steps) == 0 {
		return 0
	}
	b := int(s.steps[0])
	s.steps = s.steps[1:]
	return b % n
}

// walk is a random life of a room. It knows the truth, which each client has in the end.
type walk struct {
	*rig
	source
	n       int // of the next value or state
	entries []*Entry
	truth   map[string]wire.Entry
	values  map[string]string
	over    bool // the budget
	left    []*testClient
	here    []*testClient
	stats   map[string]int
}

func newWalk(t *testing.T, s source) *walk {
	w := &walk{
		rig: newRig(t, ShowMembers), source: s, truth: map[string]wire.Entry{},
		values: map[string]string{}, stats: map[string]int{},
	}
	b := &w.totals.Budget
	b.Limit, b.Alarm = 64<<20, func() {}
	w.queues.MaxMessages = 40
	return w
}

// keep notes an entry as it is now.
func (w *walk) keep(e *Entry) {
	copied := e.Entry
	w.truth[e.Key] = copied
}

// change changes the entries.
func (w *walk) change() {
	w.n++
	if len(w.entries) == 0 || w.IntN(4) == 0 && len(w.entries) < 30 {
		key := ""
		if w.IntN(2) == 0 {
			key = fmt.Sprint("key", w.IntN(5))
		}
		w.counted(len(w.entries)+1, func() {
			e := w.AddEntry(fmt.Sprint("user", w.n), key, nil, fmt.Append(nil, w.n))
			w.entries = append(w.entries, e)
			w.keep(e)
		})
		return
	}
	i := w.IntN(len(w.entries))
	e := w.entries[i]
	switch w.IntN(5) {
	case 0:
		w.entries = slices.Delete(w.entries, i, i+1)
		w.drop(e)
		delete(w.truth, e.Key)
		return
	case 1:
		w.do(func() { e.SetInfo(fmt.Append(nil, w.n)) })
	case 2:
		w.do(func() { e.SetAway(!e.Away) })
	default:
		size := 1 + w.IntN(2)*w.IntN(1000)
		w.do(func() {
			err := e.SetState(bytes.Repeat([]byte("7"), size))
			require.True(w.t, err == nil || w.over && errors.Is(err, ErrFull))
		})
	}
	w.keep(e)
}

// set changes a value.
func (w *walk) set() {
	w.n++
	key := fmt.Sprint("v", w.IntN(20))
	if w.IntN(3) == 0 {
		require.NoError(w.t, w.value(key, "null"))
		delete(w.values, key)
		return
	}
	content := numbered(key, w.n, 1+w.IntN(2)*w.IntN(8000))
	if err := w.value(key, content); err != nil {
		require.ErrorIs(w.t, err, ErrFull)
		require.True(w.t, w.over)
		return
	}
	w.values[key] = content
}

// enter lets a client join, perhaps one that was here before.
func (w *walk) enter() {
	plain := w.IntN(4) == 0
	var former *testClient
	if n := len(w.left); n > 0 && !plain && w.IntN(3) > 0 {
		former = w.left[w.IntN(n)]
	}
	mute, watches, lies := w.IntN(4) == 0, !plain && w.IntN(3) > 0, w.IntN(8) == 0
	w.here = append(w.here, w.join(plain, func(c *testClient) {
		c.mute = mute
		if watches {
			c.Watch(0)
		}
		if former == nil {
			return
		}
		c.values, c.newest = maps.Clone(former.values), maps.Clone(former.newest)
		c.valueVersion = former.valueVersion
		names := max(1, former.valueVersion)
		if lies {
			names = 1000 // nobody has given it that
		}
		if c.mustForget = !w.Room.values.table.knows(names); c.mustForget {
			w.stats["unknown"]++
		}
		c.KnowsValues(names)
		if !watches {
			return
		}
		if c.Watch(former.version); c.Reader.presence != 0 {
			c.version, c.show, c.entries = former.version, former.show, maps.Clone(former.entries)
			c.users, c.conns = former.users, former.conns
		}
	}))
}

func (w *walk) leave(i int) {
	c := w.here[i]
	w.here = slices.Delete(w.here, i, i+1)
	if !c.isWireStalled() {
		c.receive()
	}
	w.do(c.Leave)
	c.pace.Close()
	c.queue.Kill()
	synctest.Wait()
	if !c.plain {
		w.left = append(w.left, c)
	}
}

func (c *testClient) isWireStalled() bool {
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	return c.wire.stalled
}

// setOver makes the budget full, or ends that.
func (w *walk) setOver(over bool) {
	if over == w.over {
		return
	}
	bytes := int64(100 << 20)
	if w.over = over; !over {
		bytes = -bytes
	}
	w.totals.Budget.Hold(bytes)
	synctest.Wait() // a flush may have begun before
}

// check checks the bounds of a connection.
func (w *walk) check() {
	for _, c := range w.here {
		p := c.pace
		p.mu.Lock()
		bytes := 0
		for i := range max(0, p.n-1) {
			bytes += p.unseen[(p.first+i)%maxUnseen].bytes
		}
		if p.n > 0 {
			require.Equal(w.t, bytes+p.unseen[(p.first+p.n-1)%maxUnseen].bytes, p.bytes)
		}
		once := map[*Reader]bool{}
		for _, r := range p.waiting {
			require.False(w.t, once[r], "it waits twice")
			once[r] = true
		}
		require.True(w.t, p.n <= minUnseen || bytes < maxUnseenBytes, "%d flushes, %d bytes", p.n, bytes)
		require.LessOrEqual(w.t, p.n, maxUnseen)
		require.LessOrEqual(w.t, p.passed, p.sent)
		p.mu.Unlock()
		require.Zero(w.t, c.queue.Counts().Dropped)
	}
}

func (w *walk) step() {
	pushed := w.pushed.Load()
	over := w.over
	switch what := w.IntN(20); {
	case what < 5:
		w.change()
	case what < 10:
		w.set()
	case what == 10 && len(w.here) < 8:
		w.enter()
	case what == 11 && len(w.here) > 0 && w.IntN(3) == 0:
		w.leave(w.IntN(len(w.here)))
	case what == 12 && len(w.here) > 0:
		c := w.here[w.IntN(len(w.here))]
		c.wire.stall(!c.isWireStalled())
	case what == 13 && len(w.here) > 0:
		if c := w.here[w.IntN(len(w.here))]; !c.plain {
			w.do(func() {
				c.Watch(0)
				c.Begin()
			})
		}
	case what == 14:
		w.setOver(w.IntN(3) == 0)
	case what < 17 && len(w.here) > 0:
		w.here[w.IntN(len(w.here))].see()
	default:
		time.Sleep(time.Duration(1+w.IntN(60)) * time.Millisecond)
		if w.IntN(20) == 0 {
			time.Sleep(11 * time.Second)
		}
	}
	if over && w.over {
		require.Equal(w.t, pushed, w.pushed.Load(), "nothing is sent while memory is short")
	}
	w.check()
}

// settle lets all clients see everything, and compares them with the truth.
func (w *walk) settle() {
	w.setOver(false)
	for range 40 {
		for _, c := range w.here {
			c.wire.stall(false)
			c.mute = false
			c.see()
		}
		time.Sleep(time.Second)
	}
	for _, c := range w.here {
		c.receive()
		w.stats["keys"] += c.keyFrames
		w.stats["snapshots"] += c.snapshots
		if c.plain {
			for key, content := range w.values {
				require.Equal(w.t, content, c.values[key])
			}
			require.Zero(w.t, c.keyFrames+c.removals)
			continue
		}
		require.Equal(w.t, w.values, c.values)
		require.False(w.t, c.mustForget, "a frame with the keys is missing")
		if c.watches {
			require.Equal(w.t, w.truth, c.entries)
			require.Equal(w.t, len(w.truth), c.conns)
		}
	}
}

func (w *walk) run(steps int) {
	for range steps {
		w.step()
	}
	w.settle()
	for _, e := range w.entries {
		w.drop(e)
	}
	for key := range w.values {
		require.NoError(w.t, w.value(key, "null"))
	}
	removed := int64(w.Room.values.table.gone * valueOverhead)
	require.Equal(w.t, removed, w.totals.Budget.Held(), "before the room ends")
	for len(w.here) > 0 {
		w.leave(0)
	}
	require.Zero(w.t, w.watchers)
	require.Empty(w.t, w.readers)
}

// TestModel lets a room live at random. Its clients come and go, know old versions, are slow, and
// say what they have seen, or never do. In the end each has the truth.
func TestModel(t *testing.T) {
	stats := map[string]int{}
	for seed := range long.Of(60, 300, 5000) {
		synctest.Test(t, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("seed %d", seed)
				}
			}()
			w := newWalk(t, rand.New(rand.NewPCG(uint64(seed), 18)))
			defer w.close()
			w.run(300)
			for what, n := range w.stats {
				stats[what] += n
			}
		})
	}
	t.Log(stats)
	require.Positive(t, stats["unknown"])
	require.Positive(t, stats["keys"])
}

func FuzzRoom(f *testing.F) {
	f.Add([]byte("\x0a\x01\x01\x05\x00\x01\x0f\x00\x12\x05\x0b"))
	f.Fuzz(func(t *testing.T, steps []byte) {
		synctest.Test(t, func(t *testing.T) {
			s := &script{steps[:min(len(steps), 1000)]}
			w := newWalk(t, s)
			defer w.close()
			for len(s.steps) > 0 {
				w.step()
			}
			w.run(0)
		})
	})
}
