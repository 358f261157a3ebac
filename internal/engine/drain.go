package engine

import (
	"fmt"
	"slices"
	"time"
)

// batch is what one write carries: control frames first, then data.
type batch struct {
	frames []*Frame
	cut    int  // bytes of the first frame that are on the wire already
	data   int  // how many of frames were queued
	last   bool // the close frame is the last of frames

	replies     int // of data, those that answer the peer
	answer, big int // bytes of these, and of those that Replies counts
}

// answers notes a frame, if it answers the peer.
func (b *batch) answers(f *Frame) {
	if f.class != Reply {
		return
	}
	b.replies++
	b.answer += f.Len()
	if f.Len() >= bigReply {
		b.big += f.Len()
	}
}

// rest returns what is to be written.
func (b *batch) rest() []*Frame {
	if b.cut == 0 {
		return b.frames
	}
	rest := slices.Clone(b.frames)
	rest[0] = &Frame{wire: rest[0].wire[b.cut:]}
	return rest
}

// drain owns the wire until nothing is left to write. It runs in its own goroutine.
func (l *Link) drain() {
	var b batch
	for l.next(&b) && l.writeOut(&b) {
	}
}

// resume is drain that first writes what the flusher could not.
func (l *Link) resume(b batch) {
	if l.writeOut(&b) {
		l.drain()
	}
}

// writeOut writes a batch, blocking, and reports whether the link goes on.
func (l *Link) writeOut(b *batch) bool {
	ok := l.wrote(b, l.write(b.rest()))
	l.cfg.Totals.Budget.release(b.frames)
	if !ok {
		return false
	}
	if b.last {
		l.farewell()
	}
	return !b.last
}

// write writes frames, a portion at a time, each with a deadline of its own.
func (l *Link) write(frames []*Frame) error {
	for len(frames) > 0 {
		n, bytes := 1, frames[0].Len()
		for n < len(frames) && bytes+frames[n].Len() <= portionBytes {
			bytes += frames[n].Len()
			n++
		}
		l.deadline()
		if err := l.wire.Write(frames[:n]); err != nil {
			return err
		}
		l.moved.Add(uint64(bytes))
		frames = frames[n:]
	}
	return nil
}

// next takes the next batch of an owned link, or gives the link back.
func (l *Link) next(b *batch) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.state == Dead:
		return false
	case l.pending():
		l.take(b)
		return true
	}
	if l.raw != nil { // an old deadline would fail the flusher's writes
		_ = l.wire.SetWriteDeadline(time.Time{})
	}
	l.state = Idle
	return false
}

// lend gives a ready link to its flusher, with its next batch.
func (l *Link) lend(b *batch) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != Ready {
		return false // it is dead
	}
	l.state = Flushing
	l.take(b)
	return true
}

// giveBack takes a link back from its flusher, which has written all of the batch.
func (l *Link) giveBack(b *batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.account(b)
	switch {
	case l.state == Dead:
	case b.last:
		l.state = Owned
		l.cfg.Go(l.farewell)
	default:
		l.state = Idle
		l.wake()
	}
}

// block takes a link over from its flusher, whose socket is full: a goroutine owns it
// until nothing is left. rest is what the flusher could not write.
func (l *Link) block(rest batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == Dead {
		l.lose(rest.data)
		l.landed(&rest)
		l.cfg.Totals.Budget.release(rest.frames)
		return
	}
	l.state = Owned
	l.writing = rest.frames
	l.cfg.Go(func() { l.resume(rest) })
}

// take moves what the next write carries out of the link. l.mu is held.
func (l *Link) take(b *batch) {
	*b = batch{frames: b.frames[:0]}
	for _, slot := range []**Frame{&l.first, &l.pong, &l.ping} {
		if *slot != nil {
			b.frames = append(b.frames, *slot)
			*slot = nil
		}
	}
	if l.replies == 0 && l.queue.bytes <= batchBytes {
		b.data = l.queue.len()
		b.frames = l.queue.popAll(b.frames)
	}
	for bytes := 0; l.queue.len() > 0; b.data++ {
		n := l.queue.at(0).Len()
		if bytes += n; bytes > batchBytes && b.data > 0 {
			break
		}
		f := l.queue.pop()
		b.answers(f)
		b.frames = append(b.frames, f)
	}
	if l.goodbye != nil && !l.said && l.queue.len() == 0 {
		l.said, b.last = true, true
		b.frames = append(b.frames, l.goodbye)
	}
	l.flying, l.writing = b.data, b.frames
	l.weighRing()
	l.tell()
}

func (l *Link) deadline() {
	l.mu.Lock()
	defer l.mu.Unlock()
	by := time.Now().Add(l.cfg.writeTimeout())
	if l.goodbye != nil && l.endBy.Before(by) {
		by = l.endBy
	}
	_ = l.wire.SetWriteDeadline(by)
}

// wrote accounts for a write and reports whether the link goes on.
func (l *Link) wrote(b *batch, err error) bool {
	l.mu.Lock()
	if err == nil {
		l.account(b)
		l.mu.Unlock()
		return true
	}
	l.lose(b.data)
	l.landed(b)
	dead := l.die()
	l.mu.Unlock()
	if dead {
		// First the cause, then what the reader would take for another one.
		l.failed(fmt.Errorf("%w: %w", ErrWrite, err))
		l.hangUp()
	}
	return false
}

// account counts what a write has carried. l.mu is held.
func (l *Link) account(b *batch) {
	l.written += uint64(b.data)
	l.cfg.Totals.Written.Add(uint64(b.data))
	l.landed(b)
}

// landed says that nothing is being written any more. l.mu is held.
func (l *Link) landed(b *batch) {
	l.flying, l.writing = 0, nil
	l.answered(b)
	l.tell()
}

// answered says that the replies of a batch are no more to be read. l.mu is held.
func (l *Link) answered(b *batch) {
	l.replies -= b.replies
	l.answer -= b.answer
	if b.big > 0 {
		l.cfg.Totals.Replies.Release(int64(b.big))
	}
	b.replies, b.answer, b.big = 0, 0, 0
}

// farewell waits for the peer's answer to the close frame and for it to hang up, as a socket
// that is closed with unread input, or gets some later, destroys what the peer has not read
// yet: RFC 6455 section 7.1.1.
func (l *Link) farewell() {
	l.mu.Lock()
	timer := time.AfterFunc(min(answerTime, time.Until(l.endBy)), l.Kill)
	l.mu.Unlock()
	l.waitEars(heardAll)
	_ = l.wire.CloseWrite()
	l.waitEars(deaf)
	timer.Stop()
	l.Kill()
}
