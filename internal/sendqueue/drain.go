package sendqueue

import (
	"fmt"
	"slices"
	"time"
)

// batch is the content of one write: frames from the slots first, then queued frames.
type batch struct {
	frames []*Frame
	cut    int  // bytes of the first frame that the wire has accepted already
	data   int  // number of frames from the ring
	last   bool // the last frame is the close frame
	took   int  // bytes that the flusher has written

	replies                   int // number of replies among data
	replyBytes, bigReplyBytes int // bytes of these, and of those counted in Replies
}

// countReply counts f if it is a reply.
func (b *batch) countReply(f *Frame) {
	if f.priority != Reply {
		return
	}
	b.replies++
	b.replyBytes += f.Len()
	if f.Len() >= bigReply {
		b.bigReplyBytes += f.Len()
	}
}

// rest returns the frames that remain to be written.
func (b *batch) rest() []*Frame {
	if b.cut == 0 {
		return b.frames
	}
	rest := slices.Clone(b.frames)
	rest[0] = &Frame{wire: rest[0].wire[b.cut:]}
	return rest
}

// drain writes until nothing is left. It runs in the goroutine that owns the wire.
func (q *Queue) drain() {
	var b batch
	for q.nextBatch(&b) && q.writeOut(&b) {
	}
}

// drainFrom writes the rest of a batch from the flusher, then drains.
func (q *Queue) drainFrom(b batch) {
	if q.writeOut(&b) {
		q.drain()
	}
}

// writeOut writes a batch, and may block. It reports whether the queue is to write more.
func (q *Queue) writeOut(b *batch) bool {
	ok := q.finishWrite(b, q.write(b))
	q.cfg.Totals.Budget.release(b.frames)
	if !ok {
		return false
	}
	if b.last {
		q.closeHandshake()
	}
	return !b.last
}

// write writes a batch in portions. After Abort, of the frames that remain, it writes only the
// close frame.
func (q *Queue) write(b *batch) error {
	frames := b.rest()
	q.mu.Lock()
	q.transit.begin()
	q.mu.Unlock()
	for len(frames) > 0 {
		n, bytes := 1, frames[0].Len()
		for n < len(frames) && bytes+frames[n].Len() <= portionBytes {
			bytes += frames[n].Len()
			n++
		}
		q.mu.Lock()
		q.setDeadline()
		q.mu.Unlock()
		if err := q.wire.Write(frames[:n], q); err != nil {
			return err
		}
		frames = q.dropUnstarted(b, frames[n:])
	}
	return nil
}

// dropUnstarted returns the part of rest that is still to be written.
func (q *Queue) dropUnstarted(b *batch, rest []*Frame) []*Frame {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.abort {
		return rest
	}
	lost := 0
	for len(rest) > 0 && rest[0].Op() != OpClose {
		if !rest[0].control() {
			lost++
		}
		rest = rest[1:]
	}
	b.data -= lost
	q.countLost(lost)
	return rest
}

// Took implements [Meter]: each byte that the wire accepts gives the peer time for the rest.
func (q *Queue) Took(n int, waited bool) {
	q.moved.Add(uint64(n))
	if waited {
		q.flowed.Store(new(time.Now()))
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.transit.add(n)
	if q.closing != nil {
		q.closing.extend()
	}
	q.setDeadline()
}

// nextBatch takes the next batch of an owned queue. If there is none, the queue becomes idle.
func (q *Queue) nextBatch(b *batch) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.state == Dead:
		return false
	case q.pending():
		q.takeBatch(b)
		return true
	}
	if q.raw != nil { // the deadline of a past write would fail the writes of the flusher
		_ = q.wire.SetWriteDeadline(time.Time{})
	}
	q.state = Idle
	return false
}

// startFlush lets the flusher write a ready queue, and takes its next batch.
func (q *Queue) startFlush(b *batch) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.state != Ready {
		return false // the queue is dead
	}
	q.state = Flushing
	q.takeBatch(b)
	return true
}

// endFlush ends the right of the flusher to write, after it has written the whole batch. The
// flusher counts in the totals what it has written in a turn.
func (q *Queue) endFlush(b *batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.account(b)
	if b.took >= minTransit {
		q.transit.begin()
		q.transit.add(b.took)
	}
	switch {
	case q.state == Dead:
	case b.last:
		q.state = Owned
		q.cfg.Go(q.closeHandshake)
	default:
		q.state = Idle
		q.schedule()
	}
}

// switchToOwner moves the right to write from the flusher to a goroutine, because the socket is
// full. The goroutine owns the wire until nothing is left. rest is the unwritten part of the batch.
func (q *Queue) switchToOwner(rest batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.state == Dead {
		q.countLost(rest.data)
		q.writeEnded(&rest)
		q.cfg.Totals.Budget.release(rest.frames)
		return
	}
	q.state = Owned
	q.transit.fill()
	q.writing = rest.frames
	q.cfg.Go(func() { q.drainFrom(rest) })
}

// takeBatch moves the frames of the next write out of the queue. q.mu is held.
func (q *Queue) takeBatch(b *batch) {
	*b = batch{frames: b.frames[:0]}
	for _, slot := range []**Frame{&q.prefix, &q.pong, &q.ping} {
		if *slot != nil {
			b.frames = append(b.frames, *slot)
			*slot = nil
		}
	}
	if q.replies == 0 && q.ring.bytes <= batchBytes {
		b.data = q.ring.len()
		b.frames = q.ring.popAll(b.frames)
	}
	for bytes := 0; q.ring.len() > 0; b.data++ {
		n := q.ring.at(0).Len()
		if bytes += n; bytes > batchBytes && b.data > 0 {
			break
		}
		f := q.ring.pop()
		b.countReply(f)
		b.frames = append(b.frames, f)
	}
	if q.closing != nil && !q.closeTaken && q.ring.len() == 0 {
		q.closeTaken, b.last = true, true
		b.frames = append(b.frames, q.closing.frame)
	}
	q.inFlight, q.writing = b.data, b.frames
	q.accountRing()
	q.notify()
}

// setDeadline limits how long the wire may accept nothing. q.mu is held.
func (q *Queue) setDeadline() {
	by := q.transit.due.Add(q.cfg.writeTimeout())
	if q.closing != nil && q.closing.by.Before(by) {
		by = q.closing.by
	}
	_ = q.wire.SetWriteDeadline(by)
}

// finishWrite accounts for a write and reports whether the queue goes on.
func (q *Queue) finishWrite(b *batch, err error) bool {
	q.mu.Lock()
	if err == nil {
		q.account(b)
		q.cfg.Totals.Written.Add(uint64(b.data))
		q.mu.Unlock()
		return true
	}
	q.countLost(b.data)
	q.writeEnded(b)
	dead := q.markDead()
	q.mu.Unlock()
	if dead {
		// The cause first: closing the wire makes the reader report a different one.
		q.failed(fmt.Errorf("%w: %w", ErrWrite, err))
		q.closeWire()
	}
	return false
}

// account counts the frames of a completed write, except in the totals. q.mu is held.
func (q *Queue) account(b *batch) {
	q.written += uint64(b.data)
	q.writeEnded(b)
}

// writeEnded ends the current write. q.mu is held.
func (q *Queue) writeEnded(b *batch) {
	q.inFlight, q.writing = 0, nil
	q.releaseReplies(b)
	q.notify()
}

// releaseReplies subtracts the replies of a batch, which wait no longer. q.mu is held.
func (q *Queue) releaseReplies(b *batch) {
	q.replies -= b.replies
	q.replyBytes -= b.replyBytes
	if b.bigReplyBytes > 0 {
		q.cfg.Totals.Replies.Release(int64(b.bigReplyBytes))
	}
	b.replies, b.replyBytes, b.bigReplyBytes = 0, 0, 0
}
