package client

import (
	"cmp"
	"hash/maphash"
)

// maxSeen is the number of messages whose repetition the client recognises. A message to several
// rooms arrives through each of them, with the missed messages of these rooms in between.
const maxSeen = 10_000

// dedupKey identifies a message by its sender and ID, or by its position. It is a hash with a
// secret seed. 0 means that the message cannot be identified.
type dedupKey uint64

// seen holds the keys of the last messages that were received. newSeen makes one.
type seen struct {
	seed maphash.Seed
	set  map[dedupKey]struct{}
	ring []dedupKey
	next int
}

func newSeen() seen {
	return seen{seed: maphash.MakeSeed(), set: make(map[dedupKey]struct{})}
}

// keyOf is safe for concurrent use.
func (s *seen) keyOf(m *Message) dedupKey {
	type identity struct {
		origin, guest, name string
		offset              uint64 // 0 with an id
	}
	k := identity{m.Sender, m.Guest, m.ID, 0}
	if m.ID == "" {
		k = identity{m.Room, "", m.Epoch, m.Offset}
	}
	if k.name == "" {
		return 0
	}
	return cmp.Or(dedupKey(maphash.Comparable(s.seed, k)), 1)
}

func (s *seen) has(k dedupKey) bool {
	_, ok := s.set[k]
	return ok
}

// add replaces the oldest key if the set is full.
func (s *seen) add(k dedupKey) {
	if k == 0 || s.has(k) {
		return
	}
	s.set[k] = struct{}{}
	if len(s.ring) < maxSeen {
		s.ring = append(s.ring, k)
		return
	}
	delete(s.set, s.ring[s.next])
	s.ring[s.next] = k
	s.next = (s.next + 1) % maxSeen
}
