package cluster

import "sync"

// seen remembers the last envelopes that were sent to several subjects, so that each is taken once.
type seen struct {
	mu    sync.Mutex
	has   map[numbered]struct{}
	order []numbered // a ring
	next  int
}

type numbered struct {
	from   ID
	number uint64
}

// maxSeen is how many envelopes are remembered. Those of one message arrive within milliseconds of
// each other, if at all.
const maxSeen = 4096

// firstTime reports whether an envelope was not seen before.
func (s *seen) firstTime(from ID, number uint64) bool {
	n := numbered{from, number}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.has[n]; ok {
		return false
	}
	if s.has == nil {
		s.has = map[numbered]struct{}{}
	}
	if len(s.order) < maxSeen {
		s.order = append(s.order, n)
	} else {
		delete(s.has, s.order[s.next])
		s.order[s.next] = n
		s.next = (s.next + 1) % maxSeen
	}
	s.has[n] = struct{}{}
	return true
}
