package engine

import (
	"fmt"
	"time"
)

// batch is what one write carries: control frames first, then data.
type batch struct {
	frames []*Frame
	data   int  // how many of frames were queued
	last   bool // the close frame is the last of frames
}

// drain owns the wire until nothing is left to write. It runs in its own goroutine.
func (l *Link) drain() {
	var b batch
	for l.take(&b) {
		err := l.wire.Write(b.frames)
		if !l.wrote(&b, err) {
			return
		}
		if b.last {
			l.farewell()
			return
		}
	}
}

// take moves what the next write carries out of the link, or gives the link back.
func (l *Link) take(b *batch) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(b.frames)
	b.frames, b.data, b.last = b.frames[:0], 0, false
	if l.state == Dead {
		return false
	}
	if !l.pending() {
		l.state = Idle
		return false
	}
	for _, slot := range []**Frame{&l.pong, &l.ping} {
		if *slot != nil {
			b.frames = append(b.frames, *slot)
			*slot = nil
		}
	}
	for bytes := 0; l.queue.n > 0; b.data++ {
		n := l.queue.at(0).frame.Len()
		if bytes += n; bytes > batchBytes && b.data > 0 {
			break
		}
		e := l.queue.pop()
		if e.class == Reply {
			l.replies--
			l.answer -= n
		}
		b.frames = append(b.frames, e.frame)
	}
	if l.goodbye != nil && !l.said && l.queue.n == 0 {
		l.said, b.last = true, true
		b.frames = append(b.frames, l.goodbye)
	}
	l.flying = b.data
	l.relieve(false)
	l.deadline()
	return true
}

func (l *Link) deadline() {
	by := time.Now().Add(l.cfg.writeTimeout())
	if l.goodbye != nil && l.endBy.Before(by) {
		by = l.endBy
	}
	_ = l.wire.SetWriteDeadline(by)
}

// wrote accounts for a write and reports whether the link goes on.
func (l *Link) wrote(b *batch, err error) bool {
	l.mu.Lock()
	l.flying = 0
	if err == nil {
		l.counts.Written += uint64(b.data)
		l.cfg.Totals.Written.Add(uint64(b.data))
		l.mu.Unlock()
		return true
	}
	l.lose(b.data)
	dead := l.die()
	l.mu.Unlock()
	if dead {
		// First the cause, then what the reader would take for another one.
		l.failed(fmt.Errorf("%w: %w", ErrWrite, err))
		l.hangUp()
	}
	return false
}

// farewell waits for the peer's answer to the close frame, so that closing the
// wire does not destroy what the peer has not read yet, RFC 6455 section 7.1.1.
func (l *Link) farewell() {
	l.mu.Lock()
	timer := time.NewTimer(min(answerTime, time.Until(l.endBy)))
	l.mu.Unlock()
	defer timer.Stop()
	select {
	case <-l.readEnded:
	case <-timer.C:
	}
	l.Kill()
}

// WaitReplies blocks while too many replies to the peer wait to be written, until
// some are, or the link ends. Whoever reads from the peer calls it before he reads
// on: a peer that asks and does not read the answers is not read either.
func (l *Link) WaitReplies() {
	for {
		l.mu.Lock()
		if l.sealed || l.replies <= maxReplies && l.answer <= maxReplyBytes {
			l.mu.Unlock()
			return
		}
		if l.relief == nil {
			l.relief = make(chan struct{})
		}
		wait := l.relief
		l.mu.Unlock()
		<-wait
	}
}

// relieve wakes who waits in WaitReplies. l.mu is held.
func (l *Link) relieve(always bool) {
	if l.relief != nil && (always || l.replies <= maxReplies/2 && l.answer <= maxReplyBytes/2) {
		close(l.relief)
		l.relief = nil
	}
}
