package bolt

import "time"

// clock is the time of a store. It goes on evenly from when the store is opened, whatever becomes
// of the system's clock, and never begins before what the store has taken: nothing is lost early,
// no id is forgotten early, because somebody has set the clock. How long a store was closed, only
// the system's clock can say.
type clock struct {
	origin time.Time // when the store was opened, with the reading that is not set
	base   int64     // its time then, in Unix nanoseconds
}

// newClock returns the clock of a store that is opened now, while the system's clock is ahead by so
// much, and has taken its newest publication at a time of its own.
func newClock(ahead time.Duration, newest int64) clock {
	now := time.Now()
	return clock{origin: now, base: max(now.UnixNano()+int64(ahead), newest)}
}

// now returns the time of the store.
func (c *clock) now() time.Time { return time.Unix(0, c.base+int64(time.Since(c.origin))) }

// outside returns a time of the store so that time.Since of it is right.
func (c *clock) outside(at int64) time.Time { return c.origin.Add(time.Duration(at - c.base)) }
