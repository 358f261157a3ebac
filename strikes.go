package realtime

import "sync"

// maxStrikes bounds for how many readers it is remembered what they broke down with.
const maxStrikes = 10_000

// strikes count how many connections have broken down, one after another, with the same message
// unacknowledged.
type strikes struct {
	max int // zero: no end

	mu   sync.Mutex
	seen map[cursorName]strike
}

// cursorName is a reader of a stream.
type cursorName struct{ stream, reader string }

type strike struct {
	at Position // of the message
	n  int
}

// add counts one more, and reports whether that is enough.
func (s *strikes) add(who cursorName, at Position) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = make(map[cursorName]strike)
	}
	one := s.seen[who]
	if one.at != at {
		one = strike{at: at}
	}
	if one.n++; one.n >= s.max {
		delete(s.seen, who)
		return true
	}
	for other := range s.seen { // any: it begins to count anew
		if len(s.seen) < maxStrikes {
			break
		}
		delete(s.seen, other)
	}
	s.seen[who] = one
	return false
}
