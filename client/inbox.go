package client

import (
	"cmp"
	"slices"
	"sync"

	"github.com/realtime-go/realtime"
)

// inbox is the client's position in the user's inbox. It acknowledges the messages that the
// application has processed, with one request at a time. The next request covers the messages that
// were processed meanwhile.
type inbox struct {
	requests *requests
	stream   *stream

	mu    sync.Mutex
	cut   func()     // ends the current connection, or between two the last one
	at    position   // without an epoch: there is no inbox
	full  bool       // a message did not fit into the queue
	out   []handed   // messages after done, in order
	old   []position // unprocessed messages from before enter, which may be delivered again
	done  uint64     // all messages up to this offset are processed
	acked uint64     // all messages up to this offset are acknowledged
	ack   *request   // the pending acknowledgement; may be nil
	left  []Message  // the messages that a reader had when it stopped, without content
}

// handed is a message of the inbox, or a jump over some.
type handed struct {
	offset uint64
	done   bool
	same   mark // of an unprocessed message that is the same and was queued before; 0: none

	// moved is true for a jump. The messages before it may have been received through a room, up to
	// the message of the stream with the number through.
	moved   bool
	through uint64
}

// begin is called for each new connection. cursor is the acknowledged position, or nil if there is
// no inbox. lost is the error that ended the last connection, and cut ends the new one.
func (b *inbox) begin(cursor *position, lost error, cut func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests.forget(b.ack)
	b.cut, b.ack, b.full = cut, nil, false
	b.stream.renew()
	switch {
	case cursor == nil:
		b.enter(position{})
	case cursor.Epoch != b.at.Epoch:
		if b.at.Epoch != "" {
			b.stream.miss(GapError{Reason: realtime.ReasonEpoch, From: b.at, To: *cursor, Err: lost})
		}
		b.enter(*cursor)
	case cursor.Offset > b.at.Offset: // another client of the user is ahead
		b.at = *cursor
	}
	if cursor != nil {
		b.acked, b.done = cursor.Offset, max(b.done, cursor.Offset)
	}
	b.acknowledge()
}

// enter starts again at a position. b.mu is held, for this method and those below.
func (b *inbox) enter(at position) {
	b.requests.forget(b.ack) // it acknowledges the previous inbox
	b.ack = nil
	for _, h := range b.out {
		if !h.done && !h.moved && h.same == 0 {
			b.old = append(b.old, position{Epoch: b.at.Epoch, Offset: h.offset})
		}
	}
	b.at, b.out, b.done, b.acked = at, nil, at.Offset, at.Offset
}

// take queues a message for the consumer if it has not been received before.
func (b *inbox) take(m Message, prev uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.at.Epoch == "":
		b.stream.give(m, false, false)
		return
	case b.full, passed(b.at, m.Position):
		return
	case b.at != position{Epoch: m.Epoch, Offset: prev}:
		b.leap(position{Epoch: m.Epoch, Offset: prev})
	}
	outcome := b.stream.give(m, true, false)
	if outcome == declined {
		b.full = true
		return
	}
	h := handed{offset: m.Offset}
	if outcome == known {
		h.same = b.stream.seen.mark(&m)
		h.done = !b.stream.isOpen(h.same)
	}
	b.pass(m.Position, h)
}

// leap reports a gap before a message. The missing messages cannot be recovered.
func (b *inbox) leap(before position) {
	gap := GapError{Reason: realtime.ReasonUnknown, From: b.at, To: before}
	if before.Epoch == b.at.Epoch {
		b.at = before
	} else {
		gap.Reason = realtime.ReasonEpoch
		b.enter(before)
	}
	b.stream.miss(gap)
}

func (b *inbox) pass(at position, h handed) {
	b.at = at
	if n := len(b.out); n > 0 { // merge, so that no server can make b.out grow
		if last := &b.out[n-1]; last.done && h.done || last.moved && h.moved {
			b.out = b.out[:n-1]
		}
	}
	b.out = append(b.out, h)
	b.advance()
}

// move advances the position without a message. The skipped messages may have been received through
// a room. In that case they are acknowledged once the application has processed them. If the queue
// had no space for them there, the next connection must deliver them through the inbox.
func (b *inbox) move(m move) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.full || !m.leads(b.at) {
		return
	}
	if some, drains := b.stream.lacks(); some && m.reason == "" {
		if b.full = true; !drains {
			b.cut()
		}
		return
	}
	if m.reason != "" {
		b.stream.miss(GapError{Reason: m.reason, From: b.at, To: m.to})
	}
	if m.to.Epoch != b.at.Epoch || m.to.Offset < b.at.Offset {
		b.enter(m.to)
		return
	}
	b.pass(m.to, handed{offset: m.to.Offset, moved: true, through: b.stream.through()})
}

// took notes that the application has processed a message, which may be of any kind.
func (b *inbox) took(m *Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.finish(m)
}

func (b *inbox) finish(m *Message) {
	if k := b.stream.seen.mark(m); k != 0 {
		b.stream.finish(k)
		for i := range b.out {
			b.out[i].done = b.out[i].done || b.out[i].same == k
		}
	}
	if m.inInbox() {
		b.given(m.Position)
	}
	b.advance()
}

// given notes that a message was processed which the inbox has delivered.
func (b *inbox) given(at position) {
	b.old = slices.DeleteFunc(b.old, func(old position) bool { return old == at })
	i, ok := slices.BinarySearchFunc(b.out, at.Offset, func(h handed, offset uint64) int {
		return cmp.Compare(h.offset, offset)
	})
	if ok && at.Epoch == b.at.Epoch {
		b.out[i].done = true
	}
}

// leave notes the message that a reader had when it stopped. It may be of any kind.
func (b *inbox) leave(m *Message) {
	if m.Type == "" { // an error
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	had := *m
	had.Content, had.Binary = nil, nil
	b.left = append(b.left, had)
}

// resume notes that reading continues, so the messages noted by leave are processed.
func (b *inbox) resume() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.left {
		b.finish(&b.left[i])
	}
	b.left = nil
}

// advance acknowledges the processed messages that have no unprocessed one before them.
func (b *inbox) advance() {
	n := 0
	for len(b.old) == 0 && n < len(b.out) && b.isDone(&b.out[n]) {
		b.done = b.out[n].offset
		n++
	}
	if b.out = b.out[n:]; len(b.out) == 0 {
		b.out = nil
	}
	b.acknowledge()
}

func (b *inbox) isDone(h *handed) bool {
	if h.moved && !h.done {
		h.done = b.stream.isDone(h.through)
	}
	return h.done
}

func (b *inbox) acknowledge() {
	if b.ack != nil || b.done <= b.acked {
		return
	}
	upTo := b.done
	q, err := b.prepare(func(res result) { b.answered(upTo, res.err) })
	if err == nil && b.requests.add(q) == nil {
		b.ack = q
	}
}

func (b *inbox) prepare(settle func(result)) (*request, error) {
	return b.requests.prepare(outgoing{Type: "ack", Offset: b.done, Epoch: b.at.Epoch}, false, settle)
}

// last returns a frame that acknowledges the processed messages, unless the server already knows.
func (b *inbox) last() (frame, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done <= b.acked {
		return frame{}, false
	}
	q, err := b.prepare(nil)
	if err != nil {
		return frame{}, false
	}
	return q.frame, true
}

// answered is called by the reader.
func (b *inbox) answered(upTo uint64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ack = nil
	if err != nil && !isCode(err, "position") {
		return // the next message or connection asks again
	}
	b.acked = max(b.acked, upTo)
	b.acknowledge()
}

// drained ends the connection if a message did not fit into the queue. Only a new connection makes
// the server send it again.
func (b *inbox) drained() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.full {
		b.cut()
	}
}
