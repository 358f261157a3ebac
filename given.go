package realtime

import (
	"sync"
	"sync/atomic"
)

const (
	// maxGiven bounds how many messages a connection is remembered to have got: as many as our
	// clients remember.
	maxGiven = 10_000
	// givenBytes is about what one takes.
	givenBytes = 48
)

// given are the messages to several targets that a connection has got while it was catching up.
// Such a message is kept in several streams, and the connection comes across it in each that it
// reads. They are known by a hash with a secret seed. The zero value is ready.
type given struct {
	any atomic.Bool // there are some

	mu   sync.Mutex
	keys map[uint64]struct{}
	ring []uint64 // the oldest is at next, once it is full
	next int
	over bool // the connection has ended
}

// add notes a message, and returns how many bytes that takes.
func (g *given) add(key uint64) (bytes int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, known := g.keys[key]; known || g.over {
		return 0
	}
	if g.keys == nil {
		g.keys = make(map[uint64]struct{})
		g.any.Store(true)
	}
	g.keys[key] = struct{}{}
	if len(g.ring) < maxGiven {
		g.ring = append(g.ring, key)
		return givenBytes
	}
	delete(g.keys, g.ring[g.next])
	g.ring[g.next] = key
	g.next = (g.next + 1) % maxGiven
	return 0
}

func (g *given) has(key uint64) bool {
	if !g.any.Load() {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	_, known := g.keys[key]
	return known
}

// bytes returns how many bytes they take.
func (g *given) bytes() int64 {
	if !g.any.Load() {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return givenBytes * int64(len(g.ring))
}

// end is clear for good: a delivery that is under way adds nothing any more.
func (g *given) end() (bytes int) {
	g.mu.Lock()
	g.over = true
	g.mu.Unlock()
	return g.clear()
}

// clear forgets all, and returns how many bytes they have taken.
func (g *given) clear() (bytes int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	bytes = givenBytes * len(g.ring)
	g.keys, g.ring, g.next = nil, nil, 0
	g.any.Store(false)
	return bytes
}
