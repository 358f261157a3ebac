package client

import (
	"cmp"
	"slices"
	"sync"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/wire"
)

// inbox is the client's position in the user's inbox. It acknowledges the messages that the
// application has processed, with one request at a time. The next request covers the messages that
// were processed meanwhile.
type inbox struct {
	requests *requests
	stream   *stream

	mu            sync.Mutex
	endConnection func()     // ends the current connection, or between two the last one
	at            position   // without an epoch: there is no inbox
	full          bool       // a message did not fit into the queue
	deliveries    []delivery // messages after done, in order
	redelivered   []position // unprocessed messages from before reset, which may come again
	done          uint64     // all messages up to this offset are processed
	acked         uint64     // all messages up to this offset are acknowledged
	ack           *request   // the pending acknowledgement; may be nil
	paused        []Message  // the last messages of readers that have stopped, without content
}

// delivery is a message of the inbox, or a change of the position without a message.
type delivery struct {
	offset uint64
	done   bool
	sameAs dedupKey // the key of a message that had been queued before; 0: it had not

	// positionOnly is true for a change without a message. The skipped messages may have been
	// received through a room, up to the message of the stream with the number queuedUpTo.
	positionOnly bool
	queuedUpTo   uint64
}

// begin is called for each new connection. cursor is the acknowledged position, or nil if there is
// no inbox. lastLoss is the error that ended the last connection. endConnection ends the new one.
func (b *inbox) begin(cursor *position, lastLoss error, endConnection func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests.cancel(b.ack)
	b.endConnection, b.ack, b.full = endConnection, nil, false
	b.stream.beginConnection()
	switch {
	case cursor == nil:
		b.reset(position{})
	case cursor.Epoch != b.at.Epoch:
		if b.at.Epoch != "" {
			b.stream.addGap(GapError{Reason: realtime.ReasonEpoch, From: b.at, To: *cursor, Err: lastLoss})
		}
		b.reset(*cursor)
	case cursor.Offset > b.at.Offset: // another client of the user is ahead
		b.at = *cursor
	}
	if cursor != nil {
		b.acked, b.done = cursor.Offset, max(b.done, cursor.Offset)
	}
	b.acknowledge()
}

// reset starts again at a position. b.mu is held, for this method and those below.
func (b *inbox) reset(at position) {
	b.requests.cancel(b.ack) // it acknowledges the previous inbox
	b.ack = nil
	for _, d := range b.deliveries {
		if !d.done && !d.positionOnly && d.sameAs == 0 {
			b.redelivered = append(b.redelivered, position{Epoch: b.at.Epoch, Offset: d.offset})
		}
	}
	b.at, b.deliveries, b.done, b.acked = at, nil, at.Offset, at.Offset
}

// receive queues a message for the consumer if it has not been received before.
func (b *inbox) receive(m Message, prev uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.at.Epoch == "":
		b.stream.push(m, false, false)
		return
	case b.full, covers(b.at, m.Position):
		return
	case b.at != position{Epoch: m.Epoch, Offset: prev}:
		b.handleGap(position{Epoch: m.Epoch, Offset: prev})
	}
	outcome := b.stream.push(m, true, false)
	if outcome == refused {
		b.full = true
		return
	}
	d := delivery{offset: m.Offset}
	if outcome == duplicate {
		d.sameAs = b.stream.seen.keyOf(&m)
		d.done = !b.stream.isUnprocessed(d.sameAs)
	}
	b.appendDelivery(m.Position, d)
}

// handleGap reports a gap before a message. The missing messages cannot be recovered.
func (b *inbox) handleGap(before position) {
	gap := GapError{Reason: realtime.ReasonUnknown, From: b.at, To: before}
	if before.Epoch == b.at.Epoch {
		b.at = before
	} else {
		gap.Reason = realtime.ReasonEpoch
		b.reset(before)
	}
	b.stream.addGap(gap)
}

func (b *inbox) appendDelivery(at position, d delivery) {
	b.at = at
	if n := len(b.deliveries); n > 0 { // merge, so that no server can make b.deliveries grow
		if last := &b.deliveries[n-1]; last.done && d.done || last.positionOnly && d.positionOnly {
			b.deliveries = b.deliveries[:n-1]
		}
	}
	b.deliveries = append(b.deliveries, d)
	b.advance()
}

// updatePosition changes the position without a message. The skipped messages may have been
// received through a room. In that case they are acknowledged once the application has processed
// them. If the queue had no space for them there, the next connection must deliver them through the
// inbox.
func (b *inbox) updatePosition(u positionUpdate) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.full || !u.applies(b.at) {
		return
	}
	if overflowed, drains := b.stream.overflowed(); overflowed && u.reason == "" {
		if b.full = true; !drains {
			b.endConnection()
		}
		return
	}
	if u.reason != "" {
		b.stream.addGap(GapError{Reason: u.reason, From: b.at, To: u.to})
	}
	if u.to.Epoch != b.at.Epoch || u.to.Offset < b.at.Offset {
		b.reset(u.to)
		return
	}
	b.appendDelivery(u.to, delivery{
		offset: u.to.Offset, positionOnly: true, queuedUpTo: b.stream.lastNumber(),
	})
}

// markProcessed notes that the application has processed a message, which may be of any kind.
func (b *inbox) markProcessed(m *Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.markProcessedLocked(m)
}

// markProcessedLocked is markProcessed for a caller that holds b.mu.
func (b *inbox) markProcessedLocked(m *Message) {
	if k := b.stream.seen.keyOf(m); k != 0 {
		b.stream.markProcessed(k)
		for i := range b.deliveries {
			b.deliveries[i].done = b.deliveries[i].done || b.deliveries[i].sameAs == k
		}
	}
	if m.inInbox() {
		b.markDeliveryDone(m.Position)
	}
	b.advance()
}

// markDeliveryDone notes that the application has processed a message that the inbox delivered.
func (b *inbox) markDeliveryDone(at position) {
	b.redelivered = slices.DeleteFunc(b.redelivered, func(old position) bool { return old == at })
	i, ok := slices.BinarySearchFunc(b.deliveries, at.Offset, func(d delivery, offset uint64) int {
		return cmp.Compare(d.offset, offset)
	})
	if ok && at.Epoch == b.at.Epoch {
		b.deliveries[i].done = true
	}
}

// pause notes the message that a reader had when it stopped. It may be of any kind.
func (b *inbox) pause(m *Message) {
	if m.Type == "" { // an error
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	noted := *m
	noted.Content, noted.Binary = nil, nil
	b.paused = append(b.paused, noted)
}

// resume notes that reading continues, so the messages noted by pause are processed.
func (b *inbox) resume() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.paused {
		b.markProcessedLocked(&b.paused[i])
	}
	b.paused = nil
}

// advance acknowledges the processed messages that have no unprocessed one before them.
func (b *inbox) advance() {
	n := 0
	for len(b.redelivered) == 0 && n < len(b.deliveries) && b.isDone(&b.deliveries[n]) {
		b.done = b.deliveries[n].offset
		n++
	}
	if b.deliveries = b.deliveries[n:]; len(b.deliveries) == 0 {
		b.deliveries = nil
	}
	b.acknowledge()
}

func (b *inbox) isDone(d *delivery) bool {
	if d.positionOnly && !d.done {
		d.done = b.stream.processedUpTo(d.queuedUpTo)
	}
	return d.done
}

func (b *inbox) acknowledge() {
	if b.ack != nil || b.done <= b.acked {
		return
	}
	upTo := b.done
	r, err := b.prepareAck(func(res result) { b.acknowledged(upTo, res.err) })
	if err == nil && b.requests.add(r) == nil {
		b.ack = r
	}
}

func (b *inbox) prepareAck(settle func(result)) (*request, error) {
	o := outgoing{Type: wire.RequestAck, Offset: b.done, Epoch: b.at.Epoch}
	return b.requests.prepare(o, false, settle)
}

// finalAck returns a frame that acknowledges the processed messages. It reports false if the server
// has confirmed all of them.
func (b *inbox) finalAck() (frame, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done <= b.acked {
		return frame{}, false
	}
	r, err := b.prepareAck(nil)
	if err != nil {
		return frame{}, false
	}
	return r.frame, true
}

// acknowledged is called by the reader with the answer to an acknowledgement up to an offset.
func (b *inbox) acknowledged(upTo uint64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ack = nil
	if err != nil && !isCode(err, wire.CodePosition) {
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
		b.endConnection()
	}
}
