package sendqueue

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
	took   int  // bytes that the flusher has written of it

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
func (l *Queue) drain() {
	var b batch
	for l.next(&b) && l.writeOut(&b) {
	}
}

// resume is drain that first writes what the flusher could not.
func (l *Queue) resume(b batch) {
	if l.writeOut(&b) {
		l.drain()
	}
}

// writeOut writes a batch, blocking, and reports whether the link goes on.
func (l *Queue) writeOut(b *batch) bool {
	ok := l.wrote(b, l.write(b))
	l.cfg.Totals.Budget.release(b.frames)
	if !ok {
		return false
	}
	if b.last {
		l.farewell()
	}
	return !b.last
}

// write writes a batch, some frames at a time. Once the link is aborted it writes none that it has
// not begun, but the close frame.
func (l *Queue) write(b *batch) error {
	frames := b.rest()
	l.mu.Lock()
	l.catchUp()
	l.mu.Unlock()
	for len(frames) > 0 {
		n, bytes := 1, frames[0].Len()
		for n < len(frames) && bytes+frames[n].Len() <= portionBytes {
			bytes += frames[n].Len()
			n++
		}
		l.mu.Lock()
		l.deadline()
		l.mu.Unlock()
		if err := l.wire.Write(frames[:n], l); err != nil {
			return err
		}
		frames = l.unbegun(b, frames[n:])
	}
	return nil
}

// unbegun returns what of the rest of a batch is still to be written.
func (l *Queue) unbegun(b *batch, rest []*Frame) []*Frame {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.abort {
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
	l.lose(lost)
	return rest
}

// Took is Meter: what the peer takes gives it time for the rest.
func (l *Queue) Took(n int, waited bool) {
	l.moved.Add(uint64(n))
	if waited {
		l.flowed.Store(new(time.Now()))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ahead(n)
	if l.goodbye != nil {
		l.goodbye.postpone()
	}
	l.deadline()
}

// catchUp says that the peer may have taken everything long ago. l.mu is held, as for the
// following.
func (l *Queue) catchUp() {
	if now := time.Now(); l.due.Before(now) {
		l.due = now
	}
}

// ahead notes that the wire has taken n bytes.
func (l *Queue) ahead(n int) {
	if n < chunk {
		return
	}
	l.due = l.due.Add(perKiB / 1024 * time.Duration(min(n, maxAhead)))
	if most := time.Now().Add(perKiB * maxAhead / 1024); l.due.After(most) {
		l.due = most
	}
}

// next takes the next batch of an owned link, or gives the link back.
func (l *Queue) next(b *batch) bool {
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
func (l *Queue) lend(b *batch) bool {
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
func (l *Queue) giveBack(b *batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.account(b)
	if b.took >= chunk {
		l.catchUp()
		l.ahead(b.took)
	}
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
func (l *Queue) block(rest batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == Dead {
		l.lose(rest.data)
		l.landed(&rest)
		l.cfg.Totals.Budget.release(rest.frames)
		return
	}
	l.state = Owned
	l.due = time.Now().Add(perKiB * maxAhead / 1024)
	l.writing = rest.frames
	l.cfg.Go(func() { l.resume(rest) })
}

// take moves what the next write carries out of the link. l.mu is held.
func (l *Queue) take(b *batch) {
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
		b.frames = append(b.frames, l.goodbye.frame)
	}
	l.flying, l.writing = b.data, b.frames
	l.weighRing()
	l.tell()
}

// deadline bounds how long the wire may take nothing: a peer that is slower than the slowest has
// used up its time.
func (l *Queue) deadline() {
	by := l.due.Add(l.cfg.writeTimeout())
	if l.goodbye != nil && l.goodbye.by.Before(by) {
		by = l.goodbye.by
	}
	_ = l.wire.SetWriteDeadline(by)
}

// wrote accounts for a write and reports whether the link goes on.
func (l *Queue) wrote(b *batch, err error) bool {
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
func (l *Queue) account(b *batch) {
	l.written += uint64(b.data)
	l.cfg.Totals.Written.Add(uint64(b.data))
	l.landed(b)
}

// landed says that nothing is being written any more. l.mu is held.
func (l *Queue) landed(b *batch) {
	l.flying, l.writing = 0, nil
	l.answered(b)
	l.tell()
}

// answered says that the replies of a batch are no more to be read. l.mu is held.
func (l *Queue) answered(b *batch) {
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
func (l *Queue) farewell() {
	l.mu.Lock()
	g := l.goodbye
	g.postpone()
	timer := time.AfterFunc(min(max(answerTime, g.grace), time.Until(g.by)), l.Kill)
	g.timer = timer
	l.mu.Unlock()
	l.waitEars(heardAll)
	_ = l.wire.CloseWrite()
	l.waitEars(deaf)
	timer.Stop()
	l.Kill()
}
