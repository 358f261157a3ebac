package sendqueue

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// nullWire is a socket that accepts everything at once and discards it.
type nullWire struct{}

func (nullWire) Write([]*Frame, Meter) error      { return nil }
func (nullWire) SetWriteDeadline(time.Time) error { return nil }
func (nullWire) CloseWrite() error                { return nil }
func (nullWire) Close() error                     { return nil }
func (nullWire) RawConn() syscall.RawConn         { return nullRaw{} }

type nullRaw struct{}

func (nullRaw) Read(func(uintptr) bool) error { return nil }
func (nullRaw) Control(func(uintptr)) error   { return nil }
func (nullRaw) Write(f func(uintptr) bool) error {
	f(0)
	return nil
}

// benchQueues returns queues of one flusher without a goroutine: the benchmark calls the flusher,
// so that nothing else runs.
func benchQueues(n int) (*flusher, []*Queue) {
	fs := NewFlushers(func(func()) {})
	fs.write = func(_ uintptr, p []byte) (int, error) { return len(p), nil }
	cfg := &Config{Go: func(func()) {}, Totals: &Totals{}, Flushers: fs}
	fs.next()                     // makes the flushers
	fs.flushers = fs.flushers[:1] // which gets all queues
	f := fs.next()
	queues := make([]*Queue, n)
	for i := range queues {
		queues[i] = New(cfg, nullWire{}, func(error) {})
		queues[i].flusher = f
		queues[i].Start()
	}
	return f, queues
}

// BenchmarkPush measures a delivery without the write: a frame enters one queue and leaves it.
func BenchmarkPush(b *testing.B) {
	for _, n := range []int{1, 16, 256} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f, queues := benchQueues(1)
			q, out := queues[0], &batch{}
			budget := &q.cfg.Totals.Budget
			frames := make([]*Frame, n)
			for i := range frames {
				frames[i] = NewFrame(OpText, make([]byte, 128))
			}
			b.ReportAllocs()
			for b.Loop() {
				for _, frame := range frames {
					q.Push(frame, Message, Disconnect)
					budget.Settle(frame)
				}
				f.ready.Store(nil)
				if !q.startFlush(out) || out.data != n {
					b.Fatal("not taken")
				}
				q.endFlush(out)
				f.out.add(q.cfg.Totals, out.frames, out.data)
				f.out.end()
			}
			perFrame(b, n)
		})
	}
}

// BenchmarkFlush measures turns of a flusher over many queues, which share all frames or none. It
// includes building and pushing the frames.
func BenchmarkFlush(b *testing.B) {
	for _, queues := range []int{1, 100, 10_000} {
		for _, frames := range []int{1, 16} {
			b.Run(fmt.Sprintf("shared/%dx%d", queues, frames), func(b *testing.B) {
				benchFlush(b, queues, frames, true)
			})
		}
	}
	b.Run("own/100x16", func(b *testing.B) { benchFlush(b, 100, 16, false) })
}

func benchFlush(b *testing.B, n, frames int, shared bool) {
	f, queues := benchQueues(n)
	budget := &queues[0].cfg.Totals.Budget
	payload := make([]byte, 128)
	b.ReportAllocs()
	for b.Loop() {
		for range frames {
			frame := NewFrame(OpText, payload)
			var w Wakeups
			for i, q := range queues {
				if i > 0 && !shared {
					budget.Settle(frame)
					frame = NewFrame(OpText, payload)
				}
				w.Push(q, frame, Message, Disconnect)
			}
			w.Flush()
			budget.Settle(frame)
		}
		f.take()
		f.serve()
	}
	perFrame(b, n*frames)
}

// perFrame reports the cost per frame of an iteration with n frames.
func perFrame(b *testing.B, n int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/frame")
}
