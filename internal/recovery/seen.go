package recovery

import (
	"sync"
	"sync/atomic"
)

const (
	// maxSeen bounds the unions that are remembered for a connection: as many as the clients
	// remember.
	maxSeen = 10_000
	// seenBytes is about the memory of each.
	seenBytes = 48
	// MaxBytes bounds the memory of what is remembered for a connection.
	MaxBytes = maxSeen * seenBytes
)

// seen are the unions that a connection was given while one of its subscriptions lagged. A union is
// kept in several streams, and the connection finds it in each one that it reads. Unions are known
// by a hash with a secret seed. The zero value is ready.
type seen struct {
	any atomic.Bool // there are keys

	mu   sync.Mutex
	keys map[uint64]struct{}
	ring []uint64 // once it is full, the oldest is at next
	next int
	over bool // the connection has ended
}

// begin reports whether a union is new. If it is, the caller gives it and calls settle; until then
// other callers wait.
func (g *seen) begin(key uint64) (isNew bool) {
	g.mu.Lock()
	if _, known := g.keys[key]; known {
		g.mu.Unlock()
		return false
	}
	return true
}

// settle ends what begin began, and remembers the union if it was given. It returns the bytes that
// this takes.
func (g *seen) settle(key uint64, given bool) (bytes int) {
	defer g.mu.Unlock()
	if !given {
		return 0
	}
	return g.note(key)
}

// add remembers a union, and returns the bytes that this takes.
func (g *seen) add(key uint64) (bytes int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.note(key)
}

// note is add with g.mu held.
func (g *seen) note(key uint64) (bytes int) {
	if _, known := g.keys[key]; known || g.over {
		return 0
	}
	if g.keys == nil {
		g.keys = make(map[uint64]struct{})
		g.any.Store(true)
	}
	g.keys[key] = struct{}{}
	if len(g.ring) < maxSeen {
		g.ring = append(g.ring, key)
		return seenBytes
	}
	delete(g.keys, g.ring[g.next])
	g.ring[g.next] = key
	g.next = (g.next + 1) % maxSeen
	return 0
}

func (g *seen) bytes() int64 {
	if !g.any.Load() {
		return 0
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return seenBytes * int64(len(g.ring))
}

// end is clear for good: a delivery that is under way adds nothing any more.
func (g *seen) end() (bytes int) {
	g.mu.Lock()
	g.over = true
	g.mu.Unlock()
	return g.clear()
}

// clear forgets all, and returns the bytes that this frees.
func (g *seen) clear() (bytes int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	bytes = seenBytes * len(g.ring)
	g.keys, g.ring, g.next = nil, nil, 0
	g.any.Store(false)
	return bytes
}
