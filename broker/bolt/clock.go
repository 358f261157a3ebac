package bolt

import "time"

// clock is the time of a store. While the store is open, it advances steadily, even if the system's
// clock is set. It never begins before the newest publication of the store. So nothing expires
// early and no id is forgotten early because the system's clock was set. The time for which the
// store was closed is known only from the system's clock.
type clock struct {
	origin time.Time // when the store was opened, with a monotonic reading
	base   int64     // the time of the store at origin, in Unix nanoseconds
}

// newClock returns the clock of a store that is opened now. ahead is added to the system's clock,
// and newest is the time of the newest publication of the store.
func newClock(ahead time.Duration, newest int64) clock {
	now := time.Now()
	return clock{origin: now, base: max(now.UnixNano()+int64(ahead), newest)}
}

// now returns the time of the store.
func (c *clock) now() time.Time { return time.Unix(0, c.base+int64(time.Since(c.origin))) }

// outside converts a time of the store to one for which time.Since is right.
func (c *clock) outside(at int64) time.Time { return c.origin.Add(time.Duration(at - c.base)) }
