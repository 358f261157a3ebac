package state

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/timerwheel"
	"github.com/realtime-go/realtime/internal/wire"
)

// nullWire is a connection that accepts everything at once and discards it.
type nullWire struct{}

func (nullWire) Write([]*sendqueue.Frame, sendqueue.Meter) error { return nil }
func (nullWire) SetWriteDeadline(time.Time) error                { return nil }
func (nullWire) CloseWrite() error                               { return nil }
func (nullWire) Close() error                                    { return nil }

// crowd is a room with many readers, whose queues the benchmark itself empties.
type crowd struct {
	mu      sync.Mutex
	room    *Room
	paces   []*Pace
	totals  sendqueue.Totals
	waiting []func()
	entries []*Entry
}

func newCrowd(b *testing.B, n int, show Show) *crowd {
	c := &crowd{}
	queues := &sendqueue.Config{
		Go: func(f func()) { c.waiting = append(c.waiting, f) }, Totals: &c.totals,
	}
	speakers := &wire.Speakers{}
	speakers.Add(wire.ProtoV1, false, int64(n))
	cfg := &Config{
		Wheel: timerwheel.New(func(func()) {}), Go: func(func()) {},
		Budget: &c.totals.Budget, Speakers: speakers, Pushed: func(int) {},
		Compressor: wire.NewCompressor(0, speakers, func() {}),
		Stopped:    func() bool { return false },

		QueueMessages: sendqueue.DefaultMaxMessages, QueueBytes: sendqueue.DefaultMaxBytes,
	}
	c.room = NewRoom(cfg, &c.mu, "hall", show)
	for i := range n {
		q := sendqueue.New(queues, nullWire{}, func(error) {})
		q.Start()
		p := NewPace(cfg, q, wire.ProtoV1, false)
		c.paces = append(c.paces, p)
		if show == ShowMembers {
			c.entries = append(c.entries, c.room.AddEntry(fmt.Sprint("user", i), "", nil, nil))
		}
		r := c.room.Add(p)
		if show != ShowNothing {
			r.Watch(0)
		}
		r.Begin()
	}
	c.room.flush()
	c.settle()
	b.ReportAllocs()
	return c
}

// settle writes what is queued, and lets all clients see it.
func (c *crowd) settle() {
	c.write()
	for _, p := range c.paces {
		p.Seen(p.sent)
	}
}

// write writes what is queued.
func (c *crowd) write() {
	for _, f := range c.waiting {
		f()
	}
	c.waiting = c.waiting[:0]
}

// BenchmarkMessage is what a message costs: one frame for all queues.
func BenchmarkMessage(b *testing.B) {
	c := newCrowd(b, 1000, ShowNothing)
	msg := broker.Message{Type: "shape", Sender: "alice", Content: []byte(`{"x":100,"y":200}`)}
	for b.Loop() {
		f := wire.Frames{Message: msg, Envelope: wire.Envelope{Room: "hall"}}
		c.room.cfg.Speakers.Encode(&f)
		var w sendqueue.Wakeups
		for _, p := range c.paces {
			w.Push(p.queue, f.For(wire.ProtoV1, false), sendqueue.Message, sendqueue.Disconnect)
		}
		w.Flush()
		f.Settle(&c.totals.Budget)
		c.write()
	}
}

// BenchmarkValue is what a latest value costs, with all readers in step.
func BenchmarkValue(b *testing.B) {
	c := newCrowd(b, 1000, ShowNothing)
	msg := broker.Message{
		Type: "shape", Sender: "alice", Content: []byte(`{"x":100,"y":200}`), Latest: "k",
	}
	for b.Loop() {
		c.room.flushed = time.Time{} // no tick
		if err := c.room.SetValue(c.room.cfg.Value("hall", &msg, Stamp{})); err != nil {
			b.Fatal(err)
		}
		c.write()
		b.StopTimer()
		c.settle()
		b.StartTimer()
	}
}

// BenchmarkDifference is a flush of 100 changed entries to 1,000 watchers.
func BenchmarkDifference(b *testing.B) {
	c := newCrowd(b, 1000, ShowMembers)
	states := [][]byte{[]byte(`{"cursor":[100,200],"typing":true}`), []byte(`{"cursor":[9,20]}`)}
	for i := 0; b.Loop(); i++ {
		c.room.flushed = time.Now()
		for _, e := range c.entries[:100] {
			if err := e.SetState(states[i%2]); err != nil {
				b.Fatal(err)
			}
		}
		c.room.flush()
		b.StopTimer()
		c.settle()
		b.StartTimer()
	}
}

// BenchmarkSnapshot is a flush in which 100 of 1,000 readers have no entries yet.
func BenchmarkSnapshot(b *testing.B) {
	c := newCrowd(b, 1000, ShowMembers)
	for b.Loop() {
		for _, r := range c.room.readers[:100] {
			r.presence = 0
		}
		c.room.flush()
		b.StopTimer()
		c.settle()
		b.StartTimer()
	}
}
