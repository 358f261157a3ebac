package client

import (
	"cmp"
	"slices"
	"sync"

	"github.com/realtime-go/realtime"
)

// inbox is how far the client has come in what the server keeps for the user. It acknowledges what
// the application is done with, one request at a time: the next one covers what was done meanwhile.
type inbox struct {
	requests *requests
	stream   *stream

	mu    sync.Mutex
	cut   func()     // ends the connection, the last one if there is none
	at    position   // without an epoch: there is no inbox
	full  bool       // what came was not taken, because the consumer is behind
	out   []handed   // what the consumer is not done with, in order
	old   []position // what it is not done with of what was before enter, and may have come again
	done  uint64     // the offset up to which it is
	acked uint64     // the offset up to which the server knows
	ack   *request   // is not answered
	left  []Message  // what it had when it was left, without content
}

// handed is a message of the inbox, by its offset.
type handed struct {
	offset uint64
	done   bool
	same   mark // as one that came before and that it is not done with; 0: it was given itself

	moved   bool   // it is none: what is in front of it may have come from elsewhere before,
	through uint64 // up to the message of the stream with this number
}

// begin is called with each new connection. The cursor is what has been acknowledged, nil if there
// is no inbox, lost is how the last connection ended, and cut ends this one.
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
	case cursor.Offset > b.at.Offset: // another client of the user's is faster
		b.at = *cursor
	}
	if cursor != nil {
		b.acked, b.done = cursor.Offset, max(b.done, cursor.Offset)
	}
	b.acknowledge()
}

// enter begins anew. b.mu is held, for this and the following.
func (b *inbox) enter(at position) {
	b.requests.forget(b.ack) // it is about the inbox before
	b.ack = nil
	for _, h := range b.out {
		if !h.done && !h.moved && h.same == 0 {
			b.old = append(b.old, position{Epoch: b.at.Epoch, Offset: h.offset})
		}
	}
	b.at, b.out, b.done, b.acked = at, nil, at.Offset, at.Offset
}

// take gives a message to the consumer, if it has not come before.
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

// leap tells that what is in front of a message is missing. Nothing can bring it back.
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
	if n := len(b.out); n > 0 { // one is enough, whatever the server says
		if last := &b.out[n-1]; last.done && h.done || last.moved && h.moved {
			b.out = b.out[:n-1]
		}
	}
	b.out = append(b.out, h)
	b.advance()
}

// move goes on without messages. They may have come from a room: then they are acknowledged when the
// application is done with them, and if they could not be taken there, the next connection is to
// deliver them here.
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

// took is told that the application is done with a message. It may be any.
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

// given is for a message that was given as one of the inbox.
func (b *inbox) given(at position) {
	b.old = slices.DeleteFunc(b.old, func(old position) bool { return old == at })
	i, ok := slices.BinarySearchFunc(b.out, at.Offset, func(h handed, offset uint64) int {
		return cmp.Compare(h.offset, offset)
	})
	if ok && at.Epoch == b.at.Epoch {
		b.out[i].done = true
	}
}

// leave is told what the application had when it stopped to ask for more. It may be any message.
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

// resume is told that it asks again: it is done with what it had.
func (b *inbox) resume() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.left {
		b.finish(&b.left[i])
	}
	b.left = nil
}

// advance acknowledges what has been done without anything in front of it that has not.
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

// last returns the acknowledgement of what has been done, if the server does not know it yet.
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
		return // it is asked again with the next one, or the next connection
	}
	b.acked = max(b.acked, upTo)
	b.acknowledge()
}

// drained has what was not taken sent again: by the next connection, as there is no other way.
func (b *inbox) drained() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.full {
		b.cut()
	}
}
