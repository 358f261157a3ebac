// Package ratelimit provides a token bucket that may go into debt.
package ratelimit

import "time"

// Rate is how much of something may be used. The zero value is without limit.
type Rate struct {
	PerSecond float64
	Burst     float64 // at once, on top
}

// burstSeconds is how many seconds' worth the usual burst is.
const burstSeconds = 10

// PerSecond returns a rate of n a second with a burst of ten seconds' worth, or the zero Rate if n
// is zero or less.
func PerSecond(n int) Rate {
	n = max(n, 0)
	return Rate{PerSecond: float64(n), Burst: burstSeconds * float64(n)}
}

// WithBurst returns r with a burst of n at most.
func (r Rate) WithBurst(n int) Rate {
	r.Burst = min(r.Burst, float64(n))
	return r
}

// Bucket is a token bucket: how much one user of a Rate has used. It may go into debt, and tells how
// long the debt takes to be paid. The zero value is full. Times are durations since any fixed moment
// that the caller chooses. A Bucket is not safe for concurrent use.
type Bucket struct {
	used float64 // stored instead of what is left, so that the zero value is full
	at   time.Duration
}

// Take takes n and returns how long it takes until nothing is owed.
func (b *Bucket) Take(r Rate, n int, now time.Duration) time.Duration {
	if r.PerSecond == 0 {
		return 0
	}
	b.refill(r, now)
	b.used += float64(n)
	if b.used <= r.Burst {
		return 0
	}
	return time.Duration((b.used - r.Burst) / r.PerSecond * float64(time.Second))
}

// TryTake takes one if it is there, and returns zero. Otherwise it takes nothing and returns how
// long to wait.
func (b *Bucket) TryTake(r Rate, now time.Duration) time.Duration {
	wait := b.Take(r, 1, now)
	if wait > 0 {
		b.used--
	}
	return wait
}

// Full reports whether nothing is used.
func (b *Bucket) Full(r Rate, now time.Duration) bool {
	b.refill(r, now)
	return b.used == 0
}

func (b *Bucket) refill(r Rate, now time.Duration) {
	b.used = max(0, b.used-r.PerSecond*(now-b.at).Seconds())
	b.at = now
}
