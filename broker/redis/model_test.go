package redis_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/memory"
)

// twins are the same stream in Redis and in memory. Offsets in memory begin at one; those in Redis
// are as much larger as the first one is.
type twins struct {
	t      *testing.T
	dice   *rand.Rand
	real   *node
	model  *memory.Broker
	stream string
	base   uint64
	top    uint64 // in memory
	epoch  [2]string
	log    []string
}

// The broker does the same as the one in memory.
func TestLikeMemory(t *testing.T) {
	s := start(t)
	real := join(t, s.options())
	model := memory.New(nil)
	require.NoError(t, model.Open(t.Context(), &node{t: t}))
	defer func() { _ = model.Close(t.Context()) }()
	for seed := range uint64(100) {
		w := &twins{
			t: t, dice: rand.New(rand.NewPCG(seed, 0)), real: real, model: model,
			stream: fmt.Sprint("user/", seed),
		}
		for range 60 {
			w.step()
		}
		w.read(broker.Query{Limit: 1000, Bytes: 1 << 30})
	}
}

func (w *twins) step() {
	switch w.dice.IntN(8) {
	case 0:
		w.read(w.query())
	case 1:
		w.ack()
	case 2:
		w.cursor()
	default:
		w.publish()
	}
}

func (w *twins) note(format string, args ...any) { w.log = append(w.log, fmt.Sprintf(format, args...)) }

func (w *twins) publish() {
	p := note(w.stream, len(w.log))
	p.Message.Sender = fmt.Sprint("s", w.dice.IntN(3))
	p.Message.Content = json.RawMessage(`"` + strings.Repeat("x", w.dice.IntN(300)) + `"`)
	p.Keep = broker.Retention{Messages: w.dice.IntN(12), Bytes: w.dice.IntN(6000), Age: time.Hour}
	if w.dice.IntN(3) > 0 {
		p.Keep = broker.Retention{Messages: 10, Bytes: 4000}
	}
	p.Shared = w.dice.IntN(2) == 0
	if w.dice.IntN(3) == 0 {
		p.Message.ID = fmt.Sprint(w.dice.IntN(20))
	}
	w.note("publish %s %q %+v shared %v size %d", p.Message.Sender, p.Message.ID, p.Keep, p.Shared, p.Size())
	got := w.real.publish(p)
	all, err := w.model.Publish(w.t.Context(), p)
	require.NoError(w.t, err)
	want := all[0]
	if w.base == 0 && !got.Full {
		w.base = got.Position.Offset - want.Position.Offset
		w.epoch = [2]string{got.Position.Epoch, want.Position.Epoch}
	}
	w.top = max(w.top, want.Position.Offset)
	got.Position = w.inMemory(got.Position)
	require.Equal(w.t, want, got, "%s", w.log)
}

// inMemory returns the same position in memory.
func (w *twins) inMemory(p broker.Position) broker.Position {
	if p.Epoch != "" {
		require.Equal(w.t, w.epoch[0], p.Epoch)
		p.Epoch = w.epoch[1]
	}
	p.Offset = w.offset(p.Offset)
	return p
}

func (w *twins) offset(o uint64) uint64 {
	if o == 0 {
		return 0
	}
	return o - w.base
}

func (w *twins) query() broker.Query {
	q := broker.Query{Backwards: w.dice.IntN(2) == 0, Limit: 1 + w.dice.IntN(12), Bytes: 1 + w.dice.IntN(5000)}
	if w.top > 0 && w.dice.IntN(2) == 0 {
		q.After = 1 + w.dice.Uint64N(w.top+1)
	}
	if w.top > 0 && w.dice.IntN(2) == 0 {
		q.Before = 1 + w.dice.Uint64N(w.top+1)
	}
	return q
}

func (w *twins) read(q broker.Query) {
	w.note("read %+v", q)
	want, err := w.model.Read(w.t.Context(), w.stream, q)
	require.NoError(w.t, err)
	if q.After > 0 {
		q.After += w.base
	}
	if q.Before > 0 {
		q.Before += w.base
	}
	got := w.real.page(w.stream, q)
	got.Top, got.Floor = w.inMemory(got.Top), w.offset(got.Floor)
	for _, all := range [][]broker.Publication{got.Publications, want.Publications} {
		for i := range all {
			all[i].At = time.Time{}
		}
	}
	for i := range got.Publications {
		p := &got.Publications[i]
		p.Position, p.Prev = w.inMemory(p.Position), w.offset(p.Prev)
	}
	require.Equal(w.t, want, got, "%s", w.log)
}

func (w *twins) ack() {
	reader, at := fmt.Sprint("r", w.dice.IntN(3)), uint64(0)
	if w.top > 0 {
		at = w.dice.Uint64N(w.top + 2)
	}
	w.note("ack %s %d", reader, at)
	want := w.model.Ack(w.t.Context(), w.stream, reader, broker.Position{Epoch: w.epoch[1], Offset: at})
	if at > 0 {
		at += w.base
	}
	got := w.real.Ack(w.t.Context(), w.stream, reader, broker.Position{Epoch: w.epoch[0], Offset: at})
	require.Equal(w.t, want, got, "%s", w.log)
}

func (w *twins) cursor() {
	reader := []string{"", "r0", "r1", "r2"}[w.dice.IntN(4)]
	w.note("cursor %q", reader)
	want, err := w.model.Cursor(w.t.Context(), w.stream, reader)
	require.NoError(w.t, err)
	got, err := w.real.Cursor(w.t.Context(), w.stream, reader)
	require.NoError(w.t, err)
	require.Equal(w.t, want, w.inMemory(got), "%s", w.log)
}
