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
	by string // the id of the last connection
}

// excuse is of a connection: its strike does not count. The strikes guard it.
type excuse bool

// add counts a connection unless it is excused, and reports whether that is enough.
func (s *strikes) add(who cursorName, at Position, by string, not *excuse) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if *not {
		return false
	}
	if s.seen == nil {
		s.seen = make(map[cursorName]strike)
	}
	one := s.seen[who]
	if one.at != at {
		one = strike{at: at}
	}
	one.by = by
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

// forgive excuses a connection, also one that has been counted, if it was the last.
func (s *strikes) forgive(who cursorName, by string, its *excuse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*its = true
	if one, ok := s.seen[who]; ok && one.by == by {
		one.n, one.by = one.n-1, ""
		s.seen[who] = one
	}
}
