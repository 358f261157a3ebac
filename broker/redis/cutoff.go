package redis

import (
	"sync"
	"time"
)

// cutoff tells the Sink when the broker is cut off from the others.
type cutoff struct {
	b *Broker

	telling sync.Mutex // held during Sink.Cut

	mu    sync.Mutex
	down  int // links that are not in force
	is    bool
	timer *time.Timer // runs while a link is down and the Sink was not told
	ended bool
}

func newCutoff(b *Broker) *cutoff { return &cutoff{b: b, down: len(b.links)} }

// told reports whether the Sink knows that the broker is cut off.
func (c *cutoff) told() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.is
}

// begin starts the time, when no link is in force yet.
func (c *cutoff) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.start()
}

// start requires that c.mu is held.
func (c *cutoff) start() {
	if !c.is && !c.ended && c.timer == nil {
		c.timer = time.AfterFunc(c.b.options.Timeout, func() { c.b.spawn(c.expired) })
	}
}

// change notes that a link is in force or not.
func (c *cutoff) change(up bool) {
	c.mu.Lock()
	if up {
		c.down--
	} else {
		c.down++
		c.start()
	}
	all := c.down == 0
	if all && c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	c.mu.Unlock()
	if all {
		c.tell(false)
	}
}

// expired is called when links were down for too long.
func (c *cutoff) expired() {
	c.mu.Lock()
	c.timer = nil
	c.mu.Unlock()
	c.tell(true)
}

// tell tells the Sink what has changed, if it still holds.
func (c *cutoff) tell(is bool) {
	c.telling.Lock()
	defer c.telling.Unlock()
	c.mu.Lock()
	changed := is != c.is && is == (c.down > 0) && !c.ended
	if changed {
		c.is = is
	}
	c.mu.Unlock()
	if changed {
		c.b.sink.Cut(is)
	}
}

func (c *cutoff) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended = true; c.timer != nil {
		c.timer.Stop()
	}
}
