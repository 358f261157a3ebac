package sendqueue

import (
	"context"
	"sync"
)

// bigReply is from how many bytes on a reply counts in [Replies]. Smaller ones are bounded for
// each link, see maxReplies.
const bigReply = 512

// Replies counts the answers that peers have asked for and not read, over all links. What a peer
// asks for is memory that it can take at no cost to itself, so there is a bound for all of them
// together, and one that is about to make a large answer waits for its turn.
//
// The zero value counts and has no limit. All methods are safe for concurrent use.
type Replies struct {
	// Limit is in bytes, 0 is without limit.
	Limit int64
	// Alarm is called when somebody has to wait. It must not block. Required if there is a Limit.
	Alarm func()

	mu      sync.Mutex
	used    int64
	waiting []*turn // the first comes next
}

// turn is one that waits.
type turn struct {
	bytes int64
	come  chan struct{} // closed when the bytes are counted
}

// Reserve counts bytes for an answer that is about to be made, and waits until there is room for
// them, or until ctx ends. The caller gives them back by Release when the answer has been pushed.
// One that is larger than all that there is waits until it is alone.
func (r *Replies) Reserve(ctx context.Context, bytes int64) error {
	r.mu.Lock()
	if len(r.waiting) == 0 && r.fits(bytes) {
		r.used += bytes
		r.mu.Unlock()
		return nil
	}
	t := &turn{bytes, make(chan struct{})}
	r.waiting = append(r.waiting, t)
	r.mu.Unlock()
	r.Alarm()
	select {
	case <-t.come:
		return nil
	case <-ctx.Done():
		r.giveUp(t)
		return context.Cause(ctx)
	}
}

// giveUp ends a wait, also one that has just come to its end.
func (r *Replies) giveUp(t *turn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, other := range r.waiting {
		if other == t {
			r.waiting = append(r.waiting[:i], r.waiting[i+1:]...)
			r.free(0) // those behind it may be smaller
			return
		}
	}
	r.free(t.bytes)
}

// Release gives back what Reserve has counted.
func (r *Replies) Release(bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.free(bytes)
}

// Short reports whether anybody waits.
func (r *Replies) Short() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.waiting) > 0
}

// add counts what a link has taken in.
func (r *Replies) add(bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used += int64(bytes)
}

func (r *Replies) fits(bytes int64) bool {
	return r.Limit == 0 || r.used == 0 || r.used+bytes <= r.Limit
}

// free lets those go on whose turn has come. r.mu is held.
func (r *Replies) free(bytes int64) {
	r.used -= bytes
	for len(r.waiting) > 0 && r.fits(r.waiting[0].bytes) {
		t := r.waiting[0]
		r.waiting = r.waiting[1:]
		r.used += t.bytes
		close(t.come)
	}
}
