package recovery

import (
	"context"
	"sync"
	"time"
)

const (
	// retryAfter is how often is tried whether the broker is available again.
	retryAfter = time.Second
	// maxOutage is after which time all subscriptions that wait try themselves: only a part of the
	// broker may be unavailable, and another one for each of them.
	maxOutage = 10 * time.Second
)

// outage is a time during which the broker is unavailable. Many subscriptions may lag then: one of
// them tries whether it is over, and the others wait. The zero value is ready. It is safe for
// concurrent use.
type outage struct {
	mu   sync.Mutex
	over chan struct{} // closed when the current outage is over; nil: there is none
}

// wait waits until the outage is over or seems to be, or ctx ends. A caller that is the first one
// calls try for that, which reports whether the broker is available.
func (o *outage) wait(ctx context.Context, try func() bool) {
	o.mu.Lock()
	over, first := o.over, o.over == nil
	if first {
		over = make(chan struct{})
		o.over = over
	}
	o.mu.Unlock()
	if !first {
		select {
		case <-over:
		case <-ctx.Done():
		}
		return
	}
	for began := time.Now(); time.Since(began) < maxOutage; {
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
		}
		if ctx.Err() != nil || try() {
			break
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.over = nil
	close(over)
}
