package client

import (
	"cmp"
	"hash/maphash"
)

// remembered is how many messages a client can tell that come twice. One to several rooms comes
// from each of them, with as much in between as was missed there.
const remembered = 10_000

// mark is what a message is known by, its sender and id or its place: a hash with a seed that
// nobody else knows. 0: by nothing.
type mark uint64

// seen knows the last messages that can be told from others. newSeen makes one.
type seen struct {
	seed maphash.Seed
	set  map[mark]struct{}
	ring []mark
	next int
}

func newSeen() seen {
	return seen{seed: maphash.MakeSeed(), set: make(map[mark]struct{})}
}

// mark is safe for concurrent use.
func (s *seen) mark(m *Message) mark {
	type known struct {
		whence, guest, name string
		offset              uint64 // 0 with an id
	}
	k := known{m.Sender, m.Guest, m.ID, 0}
	if m.ID == "" {
		k = known{m.Room, "", m.Epoch, m.Offset}
	}
	if k.name == "" {
		return 0
	}
	return cmp.Or(mark(maphash.Comparable(s.seed, k)), 1)
}

func (s *seen) has(k mark) bool {
	_, ok := s.set[k]
	return ok
}

// add forgets the oldest for it.
func (s *seen) add(k mark) {
	if k == 0 || s.has(k) {
		return
	}
	s.set[k] = struct{}{}
	if len(s.ring) < remembered {
		s.ring = append(s.ring, k)
		return
	}
	delete(s.set, s.ring[s.next])
	s.ring[s.next] = k
	s.next = (s.next + 1) % remembered
}
