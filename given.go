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

// begin reports whether a message is new to the connection. If it is, whoever has asked gives it,
// and calls settle: until then others wait, who have come across it in another stream.
func (g *given) begin(key uint64) (isNew bool) {
	g.mu.Lock()
	if _, known := g.keys[key]; known {
		g.mu.Unlock()
		return false
	}
	return true
}

// settle ends what begin has begun, and notes the message if got. It returns how many bytes that
// takes.
func (g *given) settle(key uint64, got bool) (bytes int) {
	defer g.mu.Unlock()
	if !got {
		return 0
	}
	return g.note(key)
}

// add notes a message, and returns how many bytes that takes.
func (g *given) add(key uint64) (bytes int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.note(key)
}

// note is add while g.mu is held.
func (g *given) note(key uint64) (bytes int) {
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
