package redis

import (
	"fmt"
	"log/slog"
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
	why   error       // how the last attempt to connect has failed
	ended bool
}

func newCutoff(b *Broker) *cutoff { return &cutoff{b: b, down: len(b.links)} }

// err returns an error with the reason if the Sink knows that the broker is cut off.
func (c *cutoff) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.is:
		return nil
	case c.why == nil:
		return errCut
	}
	return fmt.Errorf("%w: %w", errCut, c.why)
}

// failed notes and logs why an attempt to connect has failed.
func (c *cutoff) failed(err error) {
	if c.b.ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	c.why = err
	c.mu.Unlock()
	c.b.log.Log(c.b.ctx, slog.LevelError, "", "redis: cannot connect", slog.Any("error", err))
}

// begin starts the time, when no link is in force yet.
func (c *cutoff) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.start(time.Now())
}

// start starts the time at the last answer of the server. c.mu is held.
func (c *cutoff) start(heard time.Time) {
	if !c.is && !c.ended && c.timer == nil {
		left := c.b.options.Timeout - time.Since(heard)
		c.timer = time.AfterFunc(left, func() { c.b.spawn(c.expired) })
	}
}

// fell notes that a link is not in force any more, whose server has answered until then.
func (c *cutoff) fell(heard time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down++
	c.start(heard)
}

// up notes that a link is in force.
func (c *cutoff) up() {
	c.mu.Lock()
	c.down--
	all := c.down == 0
	if all {
		c.why = nil
	}
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
