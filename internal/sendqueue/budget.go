package sendqueue

import (
	"cmp"
	"sync/atomic"
)

const (
	// frameOverhead is about what a frame takes beside its bytes.
	frameOverhead = 64
	// entryBytes is about what one place in a ring takes.
	entryBytes = 8
)

// Budget counts the memory of what waits to be written, over all links, and what else Hold is
// told of. A frame counts once however many links hold it, from Settle until the last of them has
// written, dropped or lost it. A ring counts for what it has grown beyond what an idle queue keeps.
//
// No delivery pays for it with an atomic of its own: whoever pushes a frame counts its
// receivers by himself and settles once, and a flusher adds up what it has written in a
// turn. So the count runs behind by the messages that are being pushed right now and by
// the turns of the flushers.
//
// The zero value counts and has no limit.
type Budget struct {
	// Limit is in bytes, 0 is without limit. It bounds nothing by itself, see Alarm.
	Limit int64
	// Mark is at how many bytes the alarm is raised, before the limit is passed. 0 is the limit.
	Mark int64
	// Alarm is called when the mark is passed, and not again before Rearm. The goroutine that
	// pushes calls it, with locks held: it must neither block nor take the lock of a link.
	Alarm func()

	used    atomic.Int64
	held    atomic.Int64
	alarmed atomic.Bool
}

// Used returns how many bytes wait.
func (b *Budget) Used() int64 { return max(0, b.used.Load()) }

// Total returns how many bytes wait or are held.
func (b *Budget) Total() int64 { return b.Used() + b.held.Load() }

// Hold counts memory that the budget bounds and that does not wait to be written. Negative
// bytes are given back.
func (b *Budget) Hold(bytes int64) {
	b.held.Add(bytes)
	if bytes > 0 {
		b.check(b.Total())
	}
}

// Over reports whether the limit is passed.
func (b *Budget) Over() bool { return b.Limit > 0 && b.Total() > b.Limit }

// Pressed reports whether the mark is passed.
func (b *Budget) Pressed() bool { return b.passed(b.Total()) }

func (b *Budget) passed(used int64) bool { return b.Limit > 0 && used > cmp.Or(b.Mark, b.Limit) }

// Held returns how many bytes are held that do not wait to be written.
func (b *Budget) Held() int64 { return b.held.Load() }

// Settle counts a frame that all have who get it. Whoever has pushed it calls it, once
// for all pushes. A frame that is never settled is never counted.
func (b *Budget) Settle(f *Frame) {
	n := f.given
	f.given = 0
	if n == 0 {
		return
	}
	if held := f.held.Add(n); held > 0 && held <= n {
		b.add(f.cost())
	}
}

// Rearm lets the alarm be raised again, now if the mark is passed.
func (b *Budget) Rearm() {
	b.alarmed.Store(false)
	b.check(b.Total())
}

func (b *Budget) add(bytes int64) {
	if bytes == 0 {
		return
	}
	if used := b.used.Add(bytes); bytes > 0 {
		b.check(used + b.held.Load())
	}
}

func (b *Budget) check(used int64) {
	if b.passed(used) && !b.alarmed.Load() && b.alarmed.CompareAndSwap(false, true) {
		b.Alarm()
	}
}

// release lets go of frames that one link held.
func (b *Budget) release(frames []*Frame) {
	freed := int64(0)
	for _, f := range frames {
		if !f.control() { // those were never counted
			freed += f.release(1)
		}
	}
	b.add(-freed)
}

// cost returns what the frame counts for, in bytes.
func (f *Frame) cost() int64 { return int64(cap(f.wire)) + frameOverhead }

// share returns the part of its cost that each who holds the frame is answerable for.
func (f *Frame) share() float64 {
	if held := f.held.Load(); held > 0 {
		return float64(f.cost()) / float64(held)
	}
	return 0
}

// release says that n links less hold the frame, and returns how many bytes that frees. A
// frame is counted while held is positive: releases that are quicker than Settle make it
// negative, so that they free nothing, and Settle knows of them.
func (f *Frame) release(n int32) (freed int64) {
	if held := f.held.Add(-n); held <= 0 && held+n > 0 {
		return f.cost()
	}
	return 0
}

// releases adds up what a flusher has written in a turn. Members of a room have the same
// frames waiting, so most links let go of the frames that the one before let go of.
type releases struct {
	budget *Budget
	run    []heldFrame // what the links just now have let go of, in this order
	freed  int64
}

type heldFrame struct {
	frame *Frame
	n     int32
}

// add lets go of what a link has written.
func (r *releases) add(b *Budget, frames []*Frame) {
	if b != r.budget {
		r.end()
		r.budget = b
	}
	at := 0
	for _, f := range frames {
		if f.control() {
			continue
		}
		if at < len(r.run) && r.run[at].frame != f {
			r.flush()
			at = 0
		}
		if at == len(r.run) {
			r.run = append(r.run, heldFrame{frame: f})
		}
		r.run[at].n++
		at++
	}
}

func (r *releases) flush() {
	for _, h := range r.run {
		r.freed += h.frame.release(h.n)
	}
	clear(r.run)
	r.run = r.run[:0]
}

// end makes the budget know.
func (r *releases) end() {
	r.flush()
	if r.freed > 0 {
		r.budget.add(-r.freed)
		r.freed = 0
	}
}
