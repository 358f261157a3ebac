package client

// remembered is how many messages a client can tell that come twice.
const remembered = 1000

// mark is what a message is known by.
type mark struct{ sender, id string }

// seen knows the last messages that had a sender and an id. The zero value is ready.
type seen struct {
	set  map[mark]struct{}
	ring [remembered]mark
	next int
}

func (s *seen) has(m *Message) bool {
	_, ok := s.set[mark{m.Sender, m.ID}]
	return ok
}

// add forgets the oldest for it.
func (s *seen) add(m *Message) {
	if m.ID == "" || s.has(m) {
		return
	}
	if s.set == nil {
		s.set = make(map[mark]struct{})
	}
	delete(s.set, s.ring[s.next])
	s.ring[s.next] = mark{m.Sender, m.ID}
	s.set[s.ring[s.next]] = struct{}{}
	s.next = (s.next + 1) % remembered
}
