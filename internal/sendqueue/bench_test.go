package sendqueue

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// nullWire is a socket that takes everything at once and does nothing with it.
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

// benchLinks returns links of one flusher that has no goroutine: the benchmark does its
// work, so that nothing else runs.
func benchLinks(n int) (*flusher, []*Queue) {
	fs := NewFlushers(func(func()) {})
	fs.write = func(_ uintptr, p []byte) (int, error) { return len(p), nil }
	cfg := &Config{Go: func(func()) {}, Totals: &Totals{}, Flushers: fs}
	f := fs.next()
	links := make([]*Queue, n)
	for i := range links {
		links[i] = NewLink(cfg, nullWire{}, func(error) {})
		links[i].flusher = f
		links[i].Uncork()
	}
	return f, links
}

// Frames go into one link and out again: what a delivery costs beside the write.
func BenchmarkPush(b *testing.B) {
	for _, n := range []int{1, 16, 256} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f, links := benchLinks(1)
			l, out := links[0], &batch{}
			budget := &l.cfg.Totals.Budget
			frames := make([]*Frame, n)
			for i := range frames {
				frames[i] = NewFrame(OpText, make([]byte, 128))
			}
			b.ReportAllocs()
			for b.Loop() {
				for _, frame := range frames {
					l.Push(frame, Message, Disconnect)
					budget.Settle(frame)
				}
				f.ready = f.ready[:0]
				if !l.lend(out) || out.data != n {
					b.Fatal("not taken")
				}
				l.giveBack(out)
				f.out.add(budget, out.frames)
				f.out.end()
			}
			perFrame(b, n)
		})
	}
}

// Turns of a flusher over many links, each with frames that all share or that are its
// own. Building the frames and pushing them is included.
func BenchmarkFlush(b *testing.B) {
	for _, links := range []int{1, 100, 10_000} {
		for _, frames := range []int{1, 16} {
			b.Run(fmt.Sprintf("shared/%dx%d", links, frames), func(b *testing.B) {
				benchFlush(b, links, frames, true)
			})
		}
	}
	b.Run("own/100x16", func(b *testing.B) { benchFlush(b, 100, 16, false) })
}

func benchFlush(b *testing.B, n, frames int, shared bool) {
	f, links := benchLinks(n)
	budget := &links[0].cfg.Totals.Budget
	payload := make([]byte, 128)
	b.ReportAllocs()
	for b.Loop() {
		for range frames {
			frame := NewFrame(OpText, payload)
			for i, l := range links {
				if i > 0 && !shared {
					budget.Settle(frame)
					frame = NewFrame(OpText, payload)
				}
				l.Push(frame, Message, Disconnect)
			}
			budget.Settle(frame)
		}
		f.take()
		f.serve()
	}
	perFrame(b, n*frames)
}

// perFrame reports what one frame cost of an iteration with n.
func perFrame(b *testing.B, n int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/frame")
}
