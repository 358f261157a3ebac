package parts

import (
	"sync"
	"time"
)

// repeats are the times after a change at which a node says again which version its part of a room
// has: a difference that was lost is found, though nothing follows.
var repeats = [...]time.Duration{2 * time.Second, 8 * time.Second, 30 * time.Second}

// maxDue is how many versions are said at a time: with the longest names, in about a megabyte.
const maxDue = 5000

// Clock gives the versions of all parts of a node, and remembers which are new. It is safe for
// concurrent use.
type Clock struct {
	mu      sync.Mutex
	version uint64
	recent  map[string]*recent
}

// recent is a room whose part has changed.
type recent struct {
	version uint64
	changed time.Time
	said    int // how many of the repeats
}

// NewClock returns a Clock.
func NewClock() *Clock { return &Clock{recent: map[string]*recent{}} }

// Next returns a new version of the part of a room. It is greater than those of all rooms before: a
// room that ends and begins again goes on.
func (c *Clock) Next(room string) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version++
	c.recent[room] = &recent{version: c.version, changed: time.Now()}
	return c.version
}

// Skip returns a new version of which the other nodes need not be told.
func (c *Clock) Skip() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version++
	return c.version
}

// Last returns the greatest version.
func (c *Clock) Last() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.version
}

// Due returns the versions that are to be said again now. It is called each second or so.
func (c *Clock) Due() (versions map[string]uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for room, r := range c.recent {
		if now.Sub(r.changed) < repeats[r.said] {
			continue
		}
		if len(versions) == maxDue { // the others come next time
			break
		}
		if versions == nil {
			versions = map[string]uint64{}
		}
		versions[room] = r.version
		for r.said < len(repeats) && now.Sub(r.changed) >= repeats[r.said] {
			r.said++
		}
		if r.said == len(repeats) {
			delete(c.recent, room)
		}
	}
	return versions
}
