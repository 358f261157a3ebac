package client

import (
	"cmp"
	"context"
	"slices"
	"sync"
)

// maxStreamBytes bounds what waits for the consumer, whatever its number.
const maxStreamBytes = 64 << 20

// item is a message, or an error between messages.
type item struct {
	msg Message
	err error
}

// stream is what waits for the consumer. Whoever fills it never waits.
type stream struct {
	limit   int    // messages
	drained func() // called when half of a full stream has been taken; may be nil
	seen    seen   // the reader's

	mu      sync.Mutex
	changed sync.Cond
	items   []item
	open    map[mark]uint64 // messages that the application has not got or is not done with, by number
	given   uint64          // how many have been given that can be told from others
	bytes   int
	full    bool      // something was refused, and drained is called
	lost    bool      // something was dropped of this connection's that may be in the inbox too
	held    *GapError // is not given out yet, nor what is behind it; may be nil
	ended   error     // nil before the end
}

func newStream(limit int) *stream {
	s := &stream{limit: limit, seen: newSeen(), open: make(map[mark]uint64)}
	s.changed.L = &s.mu
	return s
}

// outcome is what becomes of a message.
type outcome uint8

const (
	given    outcome = iota
	known            // it was given before
	declined         // the stream is full
)

// give appends a message, unless the stream is full, or it was given before and is not to be anew.
// What is kept can be had again, when drained is called; else it is dropped, and the consumer told.
// It is for the reader.
func (s *stream) give(m Message, kept, anew bool) outcome {
	k := s.seen.mark(&m)
	if s.seen.has(k) && !anew {
		return known
	}
	if !s.push(m, kept) {
		return declined
	}
	s.seen.add(k)
	return given
}

// isOpen reports whether the application is not done with a message that was given.
func (s *stream) isOpen(k mark) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.open[k]
	return ok
}

// through returns the number of the last message that was given.
func (s *stream) through() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.given
}

// isDone reports whether the application is done with everything up to a number.
func (s *stream) isDone(through uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.open {
		if n <= through {
			return false
		}
	}
	return true
}

// lacks reports whether something was not taken of what this connection has delivered, and whether
// drained is going to be called.
func (s *stream) lacks() (some, drains bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.full || s.lost, s.full
}

// renew says that there is another connection.
func (s *stream) renew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = false
}

// finish is told that the application is done with a message.
func (s *stream) finish(k mark) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, k)
}

func (s *stream) push(m Message, kept bool) (taken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(s.items) < s.limit && s.bytes+m.size() <= maxStreamBytes:
		s.bytes += m.size()
		if k := s.seen.mark(&m); k != 0 {
			s.number(k)
		}
		s.append(item{msg: m})
		return true
	case kept:
		s.full = true
	default:
		s.lost = s.lost || m.ID != ""
		s.tail("", false).Dropped++
	}
	return false
}

// number notes a message that is given, perhaps for the second time. s.mu is held.
func (s *stream) number(k mark) {
	if _, again := s.open[k]; !again {
		s.given++
		s.open[k] = s.given
	}
}

// miss tells of messages that are missing for good.
func (s *stream) miss(gap GapError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	told := s.tail(gap.Room, true)
	told.Reason, told.To, told.Err = gap.Reason, gap.To, cmp.Or(gap.Err, told.Err)
	if told.From == (position{}) {
		told.From = gap.From
	}
}

// gap marks a gap after a connection that ended with err. It is held back, with everything that
// comes after it, until release.
func (s *stream) gap(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = s.tail("", false)
	s.held.Err = err
}

// release ends what gap began.
func (s *stream) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = nil
	s.changed.Broadcast()
}

// fail appends an error.
func (s *stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.append(item{err: err})
}

// end lets the consumer have what is left, and then err. Nothing is held back any more.
func (s *stream) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = err
	s.changed.Broadcast()
}

// tail returns the gap of a room, or of none, at the end of what waits, which it makes if there is
// none: two gaps without a message between them are one. kept says that it is one with a Reason.
// s.mu is held.
func (s *stream) tail(room string, kept bool) *GapError {
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

// append needs s.mu.
func (s *stream) append(it item) {
	s.items = append(s.items, it)
	s.changed.Broadcast()
}

// next waits for the next item until ctx ends, whose cause is an item then. After the end it
// returns what is left, and then the final error with last true.
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
	for !s.mayGo() {
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
		s.items = nil // gives the array back that is used up
	}
	s.bytes -= it.msg.size()
	drained = s.full && len(s.items) <= s.limit/2 && s.bytes <= maxStreamBytes/2
	s.full = s.full && !drained
	return it, false, drained
}

func (s *stream) notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed.Broadcast()
}

// mayGo reports whether there is something for next. s.mu is held.
func (s *stream) mayGo() bool {
	if len(s.items) == 0 {
		return s.ended != nil
	}
	gap, ok := s.items[0].err.(*GapError)
	return !ok || gap != s.held
}
