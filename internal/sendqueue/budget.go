package sendqueue

import (
	"cmp"
	"sync/atomic"
)

const (
	// frameOverhead is the approximate size of a frame without its bytes.
	frameOverhead = 64
	// entryBytes is the approximate size of one slot of a ring.
	entryBytes = 8
)

// Budget counts the memory of the frames that wait to be written in all queues, and memory added by
// Hold. A frame counts once, no matter how many queues hold it: from Settle until the last of them
// has written, dropped or lost it. A ring counts with its size beyond that of an idle queue.
//
// Counting costs no atomic operation per receiver: the goroutine that pushes a frame counts the
// receivers and settles once, and a flusher adds up the frames written in one turn. Therefore the
// count lags by the messages that are being pushed, and by the current turns of the flushers.
//
// The zero value counts without a limit. All methods are safe for concurrent use.
type Budget struct {
	// Limit is in bytes. Zero means no limit. The budget itself does not enforce it, see Alarm.
	Limit int64
	// Mark is the number of bytes above which the alarm is raised, below the limit. Zero means
	// Limit.
	Mark int64
	// Alarm is called when the mark is exceeded, and not again before Rearm. It is called by the
	// goroutine that pushes, with locks held: it must not block nor use a queue. Required if there
	// is a limit.
	Alarm func()

	used    atomic.Int64
	held    atomic.Int64
	alarmed atomic.Bool
}

// Used returns the number of bytes that wait to be written.
func (b *Budget) Used() int64 { return max(0, b.used.Load()) }

// Total returns the sum of Used and Held.
func (b *Budget) Total() int64 { return b.Used() + b.held.Load() }

// Hold adds memory that does not wait to be written but counts towards the limit. Negative bytes
// are subtracted.
func (b *Budget) Hold(bytes int64) {
	b.held.Add(bytes)
	if bytes > 0 {
		b.check(b.Total())
	}
}

// Over reports whether the limit is exceeded.
func (b *Budget) Over() bool { return b.Limit > 0 && b.Total() > b.Limit }

// Pressed reports whether the mark is exceeded.
func (b *Budget) Pressed() bool { return b.passed(b.Total()) }

func (b *Budget) passed(used int64) bool { return b.Limit > 0 && used > cmp.Or(b.Mark, b.Limit) }

// Held returns the number of bytes added by Hold.
func (b *Budget) Held() int64 { return b.held.Load() }

// Settle counts a frame. The goroutine that pushes it must call Settle once after the last push. A
// frame that is never settled is never counted.
func (b *Budget) Settle(f *Frame) {
	n := f.unsettled
	f.unsettled = 0
	if n == 0 {
		return
	}
	if held := f.held.Add(n); held > 0 && held <= n {
		b.add(f.cost())
	}
}

// Rearm allows the alarm to be raised again, which happens at once if the mark is exceeded.
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

// release subtracts frames that one queue held.
func (b *Budget) release(frames []*Frame) {
	freed := int64(0)
	for _, f := range frames {
		if !f.control() { // control frames are not counted
			freed += f.release(1)
		}
	}
	b.add(-freed)
}

// cost returns the size of the frame in the budget, in bytes.
func (f *Frame) cost() int64 { return int64(cap(f.wire)) + frameOverhead }

// share returns the part of the cost that falls to each queue that holds the frame.
func (f *Frame) share() float64 {
	if held := f.held.Load(); held > 0 {
		return float64(f.cost()) / float64(held)
	}
	return 0
}

// release subtracts n queues from those that hold the frame, and returns the number of bytes freed.
// A frame counts while held is positive. Releases that come before Settle make held negative: they
// free nothing, and Settle takes them into account.
func (f *Frame) release(n int32) (freed int64) {
	if held := f.held.Add(-n); held <= 0 && held+n > 0 {
		return f.cost()
	}
	return 0
}

// releases adds up the frames written in one turn of a flusher. Members of a room mostly have the
// same frames queued, so that most queues release the same frames as the previous one.
type releases struct {
	totals  *Totals
	run     []heldFrame // the frames that the last queues have released, in order
	freed   int64
	written int
}

type heldFrame struct {
	frame *Frame
	n     int32
}

// add releases frames of one queue. written of them count as written.
func (r *releases) add(t *Totals, frames []*Frame, written int) {
	if t != r.totals {
		r.end()
		r.totals = t
	}
	r.written += written
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

// end reports the sums to the totals.
func (r *releases) end() {
	r.flush()
	if r.freed > 0 {
		r.totals.Budget.add(-r.freed)
		r.freed = 0
	}
	if r.written > 0 {
		r.totals.Written.Add(uint64(r.written))
		r.written = 0
	}
}
