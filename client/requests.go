package client

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/realtime-go/realtime"
)

// request is a request to the server.
type request struct {
	id    uint64
	frame frame
	// repeat is true if the next connection repeats the request when this one ends before the
	// answer. Otherwise the request fails with ErrDisconnected.
	repeat bool
	// settle, if not nil, is called with the server's answer before any frame after the answer is
	// handled. It is not called for requests that end in another way.
	settle func(result)
	result chan result // receives one result, and has space for it; nil: there is no answer
	value  sentValue   // zero: not a latest value

	// The server may answer that it cannot serve the request for now, see postpone.
	mayRetry   bool
	delayed    func()        // called by the reader with each such answer; may be nil
	retryLimit time.Duration // 0: there was none
	retry      *time.Timer

	slots chan struct{} // has an element for the request; nil: it has none
}

// sentValue is the target and the key of a latest value.
type sentValue struct{ room, conn, key string }

// unanswered reports whether the request is an ephemeral message or a latest value.
func (r *request) unanswered() bool { return r.result == nil }

// ephemeral reports whether the request does not wait for a connection.
func (r *request) ephemeral() bool { return r.unanswered() && r.value == sentValue{} }

// result is how a request ended.
type result struct {
	content json.RawMessage
	binary  []byte // in place of content; nil if there is none
	err     error
}

// freeSlot gives back what the request has in slots. requests.mu is held.
func (r *request) freeSlot() {
	if r.slots != nil {
		<-r.slots
		r.slots = nil
	}
}

func (r *request) fail(err error) {
	if !r.unanswered() {
		r.result <- result{err: err}
	}
}

// requests are the pending requests, over all connections.
type requests struct {
	ready chan struct{} // has an element when next may return a frame

	last atomic.Uint64 // the last id

	maxCount, maxBytes int // limits for the requests of the application

	mu        sync.Mutex
	count     int        // pending requests of the application, including those that wait for their turn
	bytes     int        // size of these
	limit     int        // the largest frame that the server accepts, in bytes
	first     []*request // requests of this connection, sent before unsent
	sent      []*request // sent over this connection, in order
	unsent    []*request // in order
	postponed []*request // wait to be sent again over this connection
	open      bool       // there is a connection
	ended     error      // nil until end

	values        map[sentValue]*request // the latest values in unsent
	bytesOfValues int
}

func newRequests(o *DialOptions) *requests {
	return &requests{
		ready: make(chan struct{}, 1), maxCount: o.PendingRequests, maxBytes: o.PendingBytes,
		values: make(map[sentValue]*request),
	}
}

// reserve counts a request of the application. It returns ErrFull if too many are pending. Requests
// of the client itself, such as a join over a new connection, are not counted.
func (q *requests) reserve(r *request) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.ended != nil:
		return q.ended
	case q.count >= q.maxCount || q.bytes >= q.maxBytes:
		return ErrFull
	}
	q.count++
	q.bytes += len(r.frame.data)
	return nil
}

// release reverses reserve.
func (q *requests) release(r *request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	r.freeSlot()
	q.count--
	q.bytes -= len(r.frame.data)
}

// prepare makes a request without sending it.
func (q *requests) prepare(o outgoing, repeat bool, settle func(result)) (*request, error) {
	o.ID = q.last.Add(1)
	f, err := o.encode()
	if err != nil {
		return nil, err
	}
	return &request{
		id: o.ID, frame: f, repeat: repeat, settle: settle, result: make(chan result, 1),
		mayRetry: mayRetry(o.Type),
	}, nil
}

// add sends a request as soon as there is a connection. It returns an error that matches
// realtime.ErrTooLarge or, after the end, realtime.ErrClosed.
func (q *requests) add(r *request) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended != nil {
		return q.ended
	}
	if err := q.checkSize(r); err != nil {
		return err
	}
	q.unsent = append(q.unsent, r)
	q.wake()
	return nil
}

// offer sends an ephemeral message, unless there is no connection, or one that is behind. It
// returns the errors of add.
func (q *requests) offer(f frame) error {
	r := &request{frame: f}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended != nil {
		return q.ended
	}
	if err := q.checkSize(r); err != nil || !q.open || q.behind() {
		return err
	}
	q.unsent = append(q.unsent, r)
	q.wake()
	return nil
}

// replace sends a latest value as soon as there is a connection. If an older one with the same
// target and key has not been written, the new one takes its place. It returns the errors of add,
// and ErrFull if too many values wait.
func (q *requests) replace(f frame, v sentValue) error {
	r := &request{frame: f, value: v}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended != nil {
		return q.ended
	}
	if err := q.checkSize(r); err != nil {
		return err
	}
	if waiting := q.values[v]; waiting != nil {
		q.bytesOfValues += len(f.data) - len(waiting.frame.data)
		waiting.frame = f
		return nil
	}
	if len(q.values) >= q.maxCount || q.bytesOfValues >= q.maxBytes {
		return ErrFull
	}
	q.values[v] = r
	q.bytesOfValues += len(f.data)
	q.unsent = append(q.unsent, r)
	q.wake()
	return nil
}

// forgetValue is called when a request is no longer in unsent. q.mu is held.
func (q *requests) forgetValue(r *request) {
	if r.value != (sentValue{}) {
		delete(q.values, r.value)
		q.bytesOfValues -= len(r.frame.data)
	}
}

// behind reports whether so much waits to be written that an ephemeral message would be late. q.mu
// is held.
func (q *requests) behind() bool {
	bytes := 0
	for _, r := range q.unsent {
		if bytes += len(r.frame.data); bytes > ephemeralBytes {
			return true
		}
	}
	return false
}

func (q *requests) checkSize(r *request) error {
	if n := len(r.frame.data); n > q.limit {
		return fmt.Errorf("%w: %d bytes, limit %d", realtime.ErrTooLarge, n, q.limit)
	}
	return nil
}

func (q *requests) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// cancel removes a request whose answer is no longer needed. The request may be nil.
func (q *requests) cancel(r *request) {
	is := func(other *request) bool { return other == r }
	q.mu.Lock()
	defer q.mu.Unlock()
	q.sent = slices.DeleteFunc(q.sent, is)
	q.unsent = slices.DeleteFunc(q.unsent, is)
	q.withdrawLocked(r)
}

// begin is called before the first request is written to a new connection, which accepts frames of
// limit bytes. The requests in first are sent before all others, and only over this connection.
func (q *requests) begin(limit int, first []*request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limit, q.first, q.open = limit, first, true
	q.unsent = slices.DeleteFunc(q.unsent, func(r *request) bool {
		err := q.checkSize(r) // the previous connection may have had another limit
		if err != nil {
			r.fail(err)
			q.forgetValue(r)
		}
		return err != nil
	})
	q.wake()
}

// next returns the next frame to be written, if there is one.
func (q *requests) next() (f frame, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	from := &q.first
	if len(q.first) == 0 {
		from = &q.unsent
	}
	if len(*from) == 0 {
		return frame{}, false
	}
	r := (*from)[0]
	*from = slices.Delete(*from, 0, 1)
	if !r.unanswered() {
		q.sent = append(q.sent, r)
	}
	q.forgetValue(r)
	q.wake() // for the next one
	return r.frame, true
}

// answer settles a request, unless its answer is no longer needed or it is sent again.
func (q *requests) answer(id uint64, res result) {
	q.mu.Lock()
	i := slices.IndexFunc(q.sent, func(r *request) bool { return r.id == id })
	if i < 0 {
		q.mu.Unlock()
		return
	}
	r := q.sent[i]
	q.sent = slices.Delete(q.sent, i, i+1)
	postponed := q.postpone(r, res)
	q.mu.Unlock()
	switch {
	case postponed && r.delayed != nil:
		r.delayed()
		return
	case postponed:
		return
	case r.settle != nil:
		r.settle(res)
	}
	r.result <- res
}

// disconnected is called when a connection has ended.
func (q *requests) disconnected() {
	q.mu.Lock()
	defer q.mu.Unlock()
	again := slices.DeleteFunc(append(q.takePostponed(), q.sent...), func(r *request) bool {
		if !r.repeat {
			r.fail(ErrDisconnected)
		}
		return !r.repeat
	})
	q.unsent = slices.Concat(again, slices.DeleteFunc(q.unsent, (*request).ephemeral))
	q.sent, q.open = nil, false
}

// end fails all pending requests with err, and all requests that are added later.
func (q *requests) end(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = err
	for _, r := range slices.Concat(q.sent, q.unsent, q.takePostponed()) {
		r.fail(err)
	}
	q.sent, q.unsent = nil, nil
}
