package client

import (
	"cmp"
	"hash/maphash"
)

// remembered is the number of messages whose repetition the client recognises. A message to several
// rooms arrives through each of them, with the missed messages of these rooms in between.
const remembered = 10_000

// mark identifies a message by its sender and ID, or by its position. It is a hash with a secret
// seed. 0 means that the message cannot be identified.
type mark uint64

// seen holds the marks of the last messages. newSeen makes one.
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

// add replaces the oldest mark if the set is full.
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
