package realtime

import (
	"sync"
	"time"

	"github.com/realtime-go/realtime/broker"
)

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
	at   broker.Position // of the message
	n    int
	last time.Time // when the last of the connections ended
}

// add counts a connection that opened and ended then, and reports whether that is enough. It does
// not count one that had opened when the last one broke down: what broke both may be the network.
func (s *strikes) add(who cursorName, at broker.Position, opened, ended time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = make(map[cursorName]strike)
	}
	one := s.seen[who]
	if one.at != at {
		one = strike{at: at}
	} else if !opened.After(one.last) {
		return false
	}
	one.last = ended
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
