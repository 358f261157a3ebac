package client

import (
	"sync"
	"time"

	"github.com/realtime-go/realtime/internal/wire"
)

// The client acknowledges state frames after so many frames or bytes, but not more often than each
// minSeenInterval, and at the latest maxSeenDelay after a frame.
const (
	seenFrames      = 4
	seenBytes       = 8 << 10
	minSeenInterval = 100 * time.Millisecond
	maxSeenDelay    = time.Second
)

// stateFrames acknowledges the state frames of one connection: presence, and latest values. The
// server sends the next ones after that. newStateFrames makes one.
type stateFrames struct {
	due chan struct{} // has an element when next may return a frame

	mu       sync.Mutex
	timer    *time.Timer // fills due; nil until the first frame
	arrived  int
	reported int       // as of the last acknowledgement
	bytes    int       // size of the frames after that
	first    time.Time // when the first of these arrived
	last     time.Time // time of the last acknowledgement
}

func newStateFrames() *stateFrames { return &stateFrames{due: make(chan struct{}, 1)} }

// note is called by the reader for each state frame, with its size in bytes.
func (s *stateFrames) note(size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.arrived == s.reported {
		s.first = now
	}
	s.arrived++
	s.bytes += size
	wait := s.at().Sub(now)
	switch {
	case wait <= 0:
		s.wake()
	case s.timer == nil:
		s.timer = time.AfterFunc(wait, s.wake)
	default:
		s.timer.Reset(wait)
	}
}

// at returns the time of the next acknowledgement. s.mu is held.
func (s *stateFrames) at() time.Time {
	if s.arrived-s.reported >= seenFrames || s.bytes >= seenBytes {
		return s.last.Add(minSeenInterval)
	}
	return s.first.Add(maxSeenDelay)
}

func (s *stateFrames) wake() {
	select {
	case s.due <- struct{}{}:
	default:
	}
}

// next returns an acknowledgement, unless there is nothing to acknowledge.
func (s *stateFrames) next() (f frame, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.arrived == s.reported || s.at().After(now) {
		return frame{}, false
	}
	s.reported, s.bytes, s.last = s.arrived, 0, now
	o := outgoing{Type: wire.RequestSeen, Frames: s.arrived}
	f, err := o.encode()
	return f, err == nil
}

// stop is called when the connection has ended.
func (s *stateFrames) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
}
