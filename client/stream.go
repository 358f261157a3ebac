package client

import (
	"context"
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
	limit int // messages

	mu      sync.Mutex
	changed sync.Cond
	items   []item
	bytes   int
	held    *GapError // is not given out yet, nor what is behind it; may be nil
	ended   error     // nil before the end
}

func newStream(limit int) *stream {
	s := &stream{limit: limit}
	s.changed.L = &s.mu
	return s
}

// push appends a message, or drops it if the stream is full, and says so.
func (s *stream) push(m Message) (taken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.items) >= s.limit || s.bytes+m.size() > maxStreamBytes {
		s.tail().Dropped++
		return false
	}
	s.bytes += m.size()
	s.append(item{msg: m})
	return true
}

// gap marks a gap after a connection that ended with err. It is held back, with everything that
// comes after it, until release.
func (s *stream) gap(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = s.tail()
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

// tail returns the gap at the end of what waits, which it makes if there is none: two gaps
// without a message between them are one. s.mu is held.
func (s *stream) tail() *GapError {
	if n := len(s.items); n > 0 {
		if gap, ok := s.items[n-1].err.(*GapError); ok {
			return gap
		}
	}
	gap := &GapError{}
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
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.mayGo() {
		if ctx.Err() != nil {
			return item{err: context.Cause(ctx)}, false
		}
		s.changed.Wait()
	}
	if len(s.items) == 0 {
		return item{err: s.ended}, true
	}
	it = s.items[0]
	s.items[0] = item{}
	if s.items = s.items[1:]; len(s.items) == 0 {
		s.items = nil // gives the array back that is used up
	}
	s.bytes -= it.msg.size()
	return it, false
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
