package client

import (
	"cmp"
	"context"
	"slices"
	"sync"
)

// maxStreamBytes limits the size of the messages that wait for the consumer.
const maxStreamBytes = 64 << 20

// While more than these wait, for the consumer or to be written, ephemeral messages are dropped.
const (
	ephemeralMessages = 64
	ephemeralBytes    = 64 << 10
)

// valueBytes is counted for each waiting value in addition to its size.
const valueBytes = 256

// valueKey is the key of a latest value in a room or, if room is empty, of the connection.
type valueKey struct{ room, key string }

// item is a message, or an error between two messages.
type item struct {
	msg Message
	err error
}

// stream is the queue of messages for the consumer. Adding to it never blocks.
type stream struct {
	limit   int    // largest number of messages
	drained func() // called when the consumer has read half of a full queue; may be nil
	seen    seen   // used by the reader only, except keyOf

	mu            sync.Mutex
	changed       sync.Cond
	items         []item
	unprocessed   map[dedupKey]uint64 // numbers of identifiable messages that are not processed
	numbered      uint64              // number of identifiable messages that have been queued
	bytes         int                 // size of the items, without the values
	taken         int                 // items that were taken out of the queue
	values        map[valueKey]int    // waiting values: their places, counted like taken
	bytesOfValues int
	full          bool      // a kept message was refused, so drained will be called
	droppedWithID bool      // a message of this connection was dropped that the inbox may keep too
	held          *GapError // held back, with everything after it; may be nil
	ended         error     // nil until end
}

func newStream(limit int) *stream {
	s := &stream{
		limit: limit, seen: newSeen(), unprocessed: make(map[dedupKey]uint64),
		values: make(map[valueKey]int),
	}
	s.changed.L = &s.mu
	return s
}

// outcome is the result of push.
type outcome uint8

const (
	queued    outcome = iota
	duplicate         // it was queued before
	refused           // the queue is full
)

// push queues a message. If the queue is full, a kept message is refused and can be fetched when
// drained is called; any other message is dropped and counted in a gap. A message that was queued
// before is ignored unless requested is true. push is called by the reader.
func (s *stream) push(m Message, kept, requested bool) outcome {
	k := s.seen.keyOf(&m)
	if s.seen.has(k) && !requested {
		return duplicate
	}
	if !s.enqueue(m, kept) {
		return refused
	}
	s.seen.add(k)
	return queued
}

// isUnprocessed reports whether a message has been queued and not been processed yet.
func (s *stream) isUnprocessed(k dedupKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.unprocessed[k]
	return ok
}

// lastNumber returns the number of the message that was queued last.
func (s *stream) lastNumber() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.numbered
}

// processedUpTo reports whether all messages up to a number have been processed.
func (s *stream) processedUpTo(through uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.unprocessed {
		if n <= through {
			return false
		}
	}
	return true
}

// overflowed reports whether a message of this connection did not fit, and whether drained will be
// called.
func (s *stream) overflowed() (overflowed, drains bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.full || s.droppedWithID, s.full
}

// beginConnection notes that there is a new connection.
func (s *stream) beginConnection() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.droppedWithID = false
}

// markProcessed notes that the application has processed a message.
func (s *stream) markProcessed(k dedupKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.unprocessed, k)
}

func (s *stream) enqueue(m Message, kept bool) (taken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fits := s.waiting() < s.limit && s.bytes+m.size() <= maxStreamBytes
	behind := s.waiting() > ephemeralMessages || s.bytes > ephemeralBytes
	switch {
	case m.Ephemeral && (behind || !fits):
		// nobody is told
	case fits:
		s.bytes += m.size()
		if k := s.seen.keyOf(&m); k != 0 {
			s.assignNumber(k)
		}
		s.append(item{msg: m})
		return true
	case kept:
		s.full = true
	default:
		s.droppedWithID = s.droppedWithID || m.ID != ""
		s.trailingGap("", false).Dropped++
	}
	return false
}

// waiting returns the number of items without the values. s.mu is held.
func (s *stream) waiting() int { return len(s.items) - len(s.values) }

// pushValue queues a latest value. If an older one with the same key waits, the newer one takes its
// place. Values take no space of messages, because each key has one at most.
func (s *stream) pushValue(m Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := valueKey{m.Room, m.Latest}
	size := m.size() + valueBytes
	place, waits := s.values[k]
	if waits {
		size -= s.items[place-s.taken].msg.size() + valueBytes
	}
	switch {
	case size > 0 && s.bytesOfValues+size > maxStreamBytes:
		s.trailingGap("", false).Dropped++
		return
	case waits:
		s.items[place-s.taken].msg = m
	default:
		s.values[k] = s.taken + len(s.items)
		s.append(item{msg: m})
	}
	s.bytesOfValues += size
}

// assignNumber numbers a message that is queued, unless it has a number. s.mu is held.
func (s *stream) assignNumber(k dedupKey) {
	if _, again := s.unprocessed[k]; !again {
		s.numbered++
		s.unprocessed[k] = s.numbered
	}
}

// addGap queues a gap of messages that are lost for good.
func (s *stream) addGap(gap GapError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.trailingGap(gap.Room, true)
	last.Reason, last.To, last.Err = gap.Reason, gap.To, cmp.Or(gap.Err, last.Err)
	if last.From == (position{}) {
		last.From = gap.From
	}
}

// holdGap queues a gap after a connection that ended with err. The gap and everything after it are
// held back until release.
func (s *stream) holdGap(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = s.trailingGap("", false)
	s.held.Err = err
}

// release ends the holding back that holdGap began.
func (s *stream) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = nil
	s.changed.Broadcast()
}

// addError queues an error.
func (s *stream) addError(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.append(item{err: err})
}

// addRefusal queues the error that something for a room was refused, unless such an error of the
// room waits or the queue is full: nobody would read more of them.
func (s *stream) addRefusal(room string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	waits := slices.ContainsFunc(s.items, func(it item) bool {
		e, ok := it.err.(*RoomError)
		return ok && e.Member && e.Room == room
	})
	if !waits && s.waiting() < s.limit {
		s.append(item{err: &RoomError{Room: room, Err: err, Member: true}})
	}
}

// end makes next return the queued items and then err. Nothing is held back any more.
func (s *stream) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = err
	s.changed.Broadcast()
}

// trailingGap returns the gap of a room, or of none, at the end of the queue. If there is none it
// adds one: two gaps without a message between them become one. kept selects a gap with a Reason.
// s.mu is held.
func (s *stream) trailingGap(room string, kept bool) *GapError {
	for _, it := range slices.Backward(s.items) {
		if it.err == nil {
			break
		}
		if gap, ok := it.err.(*GapError); ok && gap.Room == room && (gap.Reason != "") == kept {
			return gap
		}
	}
	gap := &GapError{Room: room}
	s.append(item{err: gap})
	return gap
}

// append requires that s.mu is held.
func (s *stream) append(it item) {
	s.items = append(s.items, it)
	s.changed.Broadcast()
}

// next waits for the next item. If ctx ends first, it returns the cause of ctx as an item. After
// the end it returns the queued items, and then the final error with last set.
func (s *stream) next(ctx context.Context) (it item, last bool) {
	defer context.AfterFunc(ctx, s.notify)()
	it, last, drained := s.wait(ctx)
	if drained && s.drained != nil {
		s.drained()
	}
	return it, last
}

func (s *stream) wait(ctx context.Context) (it item, last, drained bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.ready() {
		if ctx.Err() != nil {
			return item{err: context.Cause(ctx)}, false, false
		}
		s.changed.Wait()
	}
	if len(s.items) == 0 {
		return item{err: s.ended}, true, false
	}
	it = s.items[0]
	s.items[0] = item{}
	if s.items = s.items[1:]; len(s.items) == 0 {
		s.items = nil // releases the array
	}
	s.taken++
	if it.msg.Latest != "" {
		delete(s.values, valueKey{it.msg.Room, it.msg.Latest})
		s.bytesOfValues -= it.msg.size() + valueBytes
	} else {
		s.bytes -= it.msg.size()
	}
	drained = s.full && s.waiting() <= s.limit/2 && s.bytes <= maxStreamBytes/2
	s.full = s.full && !drained
	return it, false, drained
}

func (s *stream) notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed.Broadcast()
}

// ready reports whether next can return. s.mu is held.
func (s *stream) ready() bool {
	if len(s.items) == 0 {
		return s.ended != nil
	}
	gap, ok := s.items[0].err.(*GapError)
	return !ok || gap != s.held
}
