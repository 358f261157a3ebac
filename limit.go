package realtime

import "time"

// limit is how much of something may be used: rate in a second, and burst at once. The zero
// value is without limit.
type limit struct{ rate, burst float64 }

func newLimit(rate int, burst float64) limit {
	return limit{rate: float64(max(rate, 0)), burst: burst}
}

// burstSeconds is how many seconds' worth of something may come at once.
const burstSeconds = 10

// burst is how much of something with this rate may come at once.
func burst(rate int) float64 { return burstSeconds * float64(rate) }

// bucket is how much somebody has used of a limit: a token bucket, told by what is missing,
// so that the zero value is full. It may go into debt, and says how long the debt takes to
// be paid. Not safe for concurrent use.
type bucket struct {
	missing float64
	at      time.Duration
}

// take takes n and returns how long to wait until none is owed. now is the time since
// whatever moment the caller counts from.
func (b *bucket) take(l limit, n int, now time.Duration) time.Duration {
	if l.rate == 0 {
		return 0
	}
	b.refill(l, now)
	b.missing += float64(n)
	return b.owed(l)
}

// try is take of one that takes nothing if it would have to wait.
func (b *bucket) try(l limit, now time.Duration) time.Duration {
	wait := b.take(l, 1, now)
	if wait > 0 {
		b.missing--
	}
	return wait
}

// full reports whether nothing is missing.
func (b *bucket) full(l limit, now time.Duration) bool {
	b.refill(l, now)
	return b.missing == 0
}

func (b *bucket) refill(l limit, now time.Duration) {
	b.missing = max(0, b.missing-l.rate*(now-b.at).Seconds())
	b.at = now
}

func (b *bucket) owed(l limit) time.Duration {
	if b.missing <= l.burst {
		return 0
	}
	return time.Duration((b.missing - l.burst) / l.rate * float64(time.Second))
}
