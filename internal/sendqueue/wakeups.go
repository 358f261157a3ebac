package sendqueue

import "math/rand/v2"

// groupPushes is the number of pushes after which the queues that they made ready go to a flusher.
// A flusher that has to be woken pays for itself with fewer, and walks of thousands of queues go to
// all flushers, which write while the walk goes on.
const groupPushes = 32

// Wakeups are the queues that became ready during a fan-out and that no flusher knows yet. They go
// to flushers in groups: one operation and one waking goroutine for each group, not for each queue.
// The members of a room have the same frames queued, so it is also cheaper if one flusher writes
// them.
//
// A fan-out calls [Wakeups.Push] for each receiver, and then always [Wakeups.Flush], even if it
// panics. In between it must not wait for anything that is written to one of the queues. All queues
// must have the same [Config]. The zero value is ready. Wakeups is not safe for concurrent use.
type Wakeups struct {
	first, last *Queue // in the state Ready, linked by next from the last to the first
	pushes      int    // since the last group
	turn        uint32 // which flusher gets the next group
}

// Push is [Queue.Push] to q. A flusher knows q after some more pushes, or after Flush.
func (w *Wakeups) Push(q *Queue, f *Frame, priority Priority, policy Policy) Outcome {
	return q.push(w, f, priority, policy)
}

// count counts a push, whatever its outcome is going to be.
func (w *Wakeups) count() {
	if w.pushes == groupPushes {
		w.Flush()
	}
	w.pushes++
}

// add takes a queue that has become ready.
func (w *Wakeups) add(q *Queue) {
	if w.first == nil {
		w.first = q
	}
	q.next, w.last = w.last, q
}

// Flush gives the queues to a flusher.
func (w *Wakeups) Flush() {
	w.pushes = 0
	first, last := w.first, w.last
	w.first, w.last = nil, nil
	switch {
	case first == nil:
	case first == last:
		first.flusher.add(first, first)
	default:
		if w.turn == 0 {
			w.turn = rand.Uint32() // small rooms must not all begin with the same flusher
		}
		w.turn++
		first.cfg.Flushers.pick(w.turn).add(first, last)
	}
}
