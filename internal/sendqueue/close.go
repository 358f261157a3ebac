package sendqueue

import (
	"time"
)

// answerTime is the time in which the peer must answer the close frame.
const answerTime = time.Second

// closing is the end of a queue that is being closed.
type closing struct {
	frame *Frame
	by    time.Time     // when the wire is closed at the latest
	grace time.Duration // progress of the write moves by to this time from now
	slack time.Duration // by how much by may still be moved
	timer *time.Timer   // ends the wait for the peer's answer
}

// peerState describes the input that the peer may still send. It only increases.
type peerState uint8

const (
	peerActive   peerState = iota
	peerFinished           // the peer only has to close the connection
	peerGone               // nothing more can be received
)

// event happens once. It allocates a channel only if a goroutine waits. The lock of the queue
// guards it.
type event struct {
	happened bool
	waiting  chan struct{}
}

func (e *event) fire() {
	if !e.happened && e.waiting != nil {
		close(e.waiting)
	}
	e.happened = true
}

func (e *event) channel() <-chan struct{} {
	if e.waiting == nil {
		e.waiting = make(chan struct{})
		if e.happened {
			close(e.waiting)
		}
	}
	return e.waiting
}

// Close ends the queue. The queue writes the queued frames, then the close frame. It waits for the
// answer of the peer, see [Queue.HeardAll] and [Queue.ReadEnded], and closes the wire after the
// given time at the latest. Close does not block, see [Queue.Done]. Only the first close frame is
// used; a later call can shorten the time.
func (q *Queue) Close(frame *Frame, within time.Duration) {
	q.startClose(frame, within, false)
}

// Abort is like Close, but discards the queued frames. A frame whose write has started must be
// written completely. Therefore the time starts again whenever the wire accepts bytes, and again
// for the answer of the peer. In total it is at most five times the given time.
func (q *Queue) Abort(frame *Frame, within time.Duration) {
	q.startClose(frame, within, true)
}

// Kill closes the wire immediately, without a close frame.
func (q *Queue) Kill() {
	q.mu.Lock()
	dead := q.markDead()
	q.mu.Unlock()
	if dead {
		q.closeWire()
	}
}

func (q *Queue) startClose(frame *Frame, within time.Duration, abort bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if abort {
		q.seal()
		q.abort = true
	}
	q.sealed = true
	q.notify()
	by := time.Now().Add(within)
	if q.closing == nil {
		q.closing = &closing{frame: frame, by: by}
		if abort {
			q.closing.grace, q.closing.slack = within, 4*within
		}
	} else {
		q.closing.shorten(by)
	}
	switch q.state {
	case Owned:
		_ = q.wire.SetWriteDeadline(q.closing.by)
	case Holding, Idle:
		q.state = Idle
		q.schedule()
	}
}

// shorten makes the queue end no later than by. The lock of the queue is held.
func (c *closing) shorten(by time.Time) {
	c.slack = max(0, min(c.slack, by.Sub(c.by)))
	if !by.Before(c.by) {
		return
	}
	c.by = by
	if c.timer != nil && c.timer.Stop() {
		c.timer.Reset(time.Until(by))
	}
}

// extend gives the peer more time, because the wire has accepted bytes. The lock of the queue is
// held.
func (c *closing) extend() {
	if more := min(c.slack, c.grace-time.Until(c.by)); more > 0 {
		c.by, c.slack = c.by.Add(more), c.slack-more
	}
}

// markDead reports whether the queue was alive. If so, the caller must call closeWire after it has
// released q.mu, which is held.
func (q *Queue) markDead() bool {
	if q.state == Dead {
		return false
	}
	q.state = Dead
	q.seal()
	return true
}

func (q *Queue) closeWire() {
	_ = q.wire.Close()
	if q.raw != nil {
		q.cfg.Totals.Direct.Add(-1)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.done.fire()
}

// Done returns a channel that is closed when the wire has been closed.
func (q *Queue) Done() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.done.channel()
}

// HeardAll tells the queue that further input from the peer is irrelevant, because the peer has
// sent a close frame or violated the protocol. After its own close frame, the queue then closes the
// wire for writing and waits for the peer to close the connection.
func (q *Queue) HeardAll() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.setPeer(peerFinished)
}

// ReadEnded tells the queue that nothing more can be read, because the peer has closed the
// connection or the connection is broken. After its close frame, the queue then closes the wire at
// once.
func (q *Queue) ReadEnded() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.setPeer(peerGone)
}

func (q *Queue) setPeer(s peerState) {
	q.peer = max(q.peer, s)
	q.notify()
}

// closeHandshake waits for the peer to answer the close frame and to close the connection. Closing
// a socket with unread input, or with input that arrives later, destroys data that the peer has not
// read yet: RFC 6455 section 7.1.1.
func (q *Queue) closeHandshake() {
	q.mu.Lock()
	c := q.closing
	c.extend()
	timer := time.AfterFunc(min(max(answerTime, c.grace), time.Until(c.by)), q.Kill)
	c.timer = timer
	q.mu.Unlock()
	q.waitPeer(peerFinished)
	_ = q.wire.CloseWrite()
	q.waitPeer(peerGone)
	timer.Stop()
	q.Kill()
}
