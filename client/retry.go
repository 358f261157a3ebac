package client

import (
	"cmp"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/wire"
)

// lastRetryLimit is the last upper limit of the random part of the wait before a request is sent
// again that the server could not serve. The limit begins with firstLimit, and doubles.
const lastRetryLimit = 10 * time.Second

// mayRetry reports whether a request of this type is sent again if the server cannot serve it for
// now. A call is never sent twice. The joins that follow a resume do not wait for it.
func mayRetry(typ string) bool { return typ != wire.FrameCall && typ != wire.RequestResume }

// postpone takes a request that was answered, and reports whether it is sent again: the server
// could not serve it for now. Other requests take its turn meanwhile. q.mu is held.
func (q *requests) postpone(r *request, res result) bool {
	e, ok := errors.AsType[*realtime.Error](res.err)
	if !ok || e.Code != wire.CodeUnavailable || !r.mayRetry {
		return false
	}
	limit := cmp.Or(r.retryLimit, firstLimit)
	r.retryLimit = min(2*limit, lastRetryLimit)
	q.postponed = append(q.postponed, r)
	r.freeSlot()
	r.retry = time.AfterFunc(min(e.RetryAfter, maxWait)+rand.N(limit), func() { q.sendAgain(r) })
	return true
}

// sendAgain ends the wait of a request, unless it does not wait any more.
func (q *requests) sendAgain(r *request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.withdrawLocked(r) {
		q.unsent = append(q.unsent, r)
		q.wake()
	}
}

// withdraw is cancel for a request that waits to be sent again. It reports false for any other
// request, and for nil.
func (q *requests) withdraw(r *request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.withdrawLocked(r)
}

// withdrawLocked is withdraw for a caller that holds q.mu.
func (q *requests) withdrawLocked(r *request) bool {
	i := slices.Index(q.postponed, r)
	if i < 0 {
		return false
	}
	q.postponed = slices.Delete(q.postponed, i, i+1)
	r.retry.Stop()
	return true
}

// takePostponed returns the requests that wait to be sent again, and ends their wait. q.mu is held.
func (q *requests) takePostponed() []*request {
	all := q.postponed
	q.postponed = nil
	for _, r := range all {
		r.retry.Stop()
	}
	return all
}
