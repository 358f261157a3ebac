package sendqueue

import (
	"context"
	"sync"
)

// bigReply is the size from which a reply counts in [Replies]. Smaller ones are bounded per queue,
// see maxReplies.
const bigReply = 512

// Replies counts the replies that peers have asked for and not read, over all queues. A peer can
// cause replies at no cost to itself. Therefore all replies together are bounded, and a goroutine
// that is about to make a large reply waits until there is room.
//
// The zero value counts without a limit. All methods are safe for concurrent use.
type Replies struct {
	// Limit is in bytes. Zero means no limit.
	Limit int64
	// Alarm is called when Reserve has to wait. It must not block. Required if there is a limit.
	Alarm func()

	mu      sync.Mutex
	used    int64
	waiting []*waiter // served in this order
}

// waiter is a call of Reserve that waits.
type waiter struct {
	bytes int64
	ready chan struct{} // closed when the bytes are counted
}

// Reserve counts bytes for a reply that is about to be made. It waits until there is room or ctx is
// done, and returns the cause of ctx then. The caller must call Release after it has pushed the
// reply. A reply larger than the limit waits until it is the only one.
func (r *Replies) Reserve(ctx context.Context, bytes int64) error {
	r.mu.Lock()
	if len(r.waiting) == 0 && r.fits(bytes) {
		r.used += bytes
		r.mu.Unlock()
		return nil
	}
	w := &waiter{bytes, make(chan struct{})}
	r.waiting = append(r.waiting, w)
	r.mu.Unlock()
	r.Alarm()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		r.cancel(w)
		return context.Cause(ctx)
	}
}

// cancel ends a wait, even if the bytes have just been counted.
func (r *Replies) cancel(w *waiter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, other := range r.waiting {
		if other == w {
			r.waiting = append(r.waiting[:i], r.waiting[i+1:]...)
			r.free(0) // later waiters may ask for less
			return
		}
	}
	r.free(w.bytes)
}

// Release subtracts bytes counted by Reserve.
func (r *Replies) Release(bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.free(bytes)
}

// Short reports whether a call of Reserve waits.
func (r *Replies) Short() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.waiting) > 0
}

// add counts a reply that has been pushed.
func (r *Replies) add(bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used += int64(bytes)
}

func (r *Replies) fits(bytes int64) bool {
	return r.Limit == 0 || r.used == 0 || r.used+bytes <= r.Limit
}

// free subtracts bytes, and lets waiters go on for which there is room. r.mu is held.
func (r *Replies) free(bytes int64) {
	r.used -= bytes
	for len(r.waiting) > 0 && r.fits(r.waiting[0].bytes) {
		w := r.waiting[0]
		r.waiting = r.waiting[1:]
		r.used += w.bytes
		close(w.ready)
	}
}
