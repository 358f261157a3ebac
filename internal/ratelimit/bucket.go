// Package ratelimit provides a token bucket that may go into debt.
package ratelimit

import "time"

// Rate is a permitted rate. The zero value means no limit.
type Rate struct {
	PerSecond float64
	Burst     float64 // how much may be used at once
}

// burstSeconds is the default burst in seconds of the rate.
const burstSeconds = 10

// PerSecond returns a rate of n a second with a burst of ten seconds, or the zero Rate if n is zero
// or negative.
func PerSecond(n int) Rate {
	n = max(n, 0)
	return Rate{PerSecond: float64(n), Burst: burstSeconds * float64(n)}
}

// WithBurst returns r with its burst limited to n.
func (r Rate) WithBurst(n int) Rate {
	r.Burst = min(r.Burst, float64(n))
	return r
}

// Bucket is a token bucket, with the usage of one user of a Rate. It may go into debt, and reports
// how long it takes to repay. The zero value is full. Times are durations since a fixed moment that
// the caller chooses. A Bucket is not safe for concurrent use.
type Bucket struct {
	used float64 // not the rest, so that the zero value is full
	at   time.Duration
}

// Take takes n, and returns how long it takes to repay the debt, or zero if there is none.
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

// TryTake takes one if it is available and returns zero. Otherwise it takes nothing and returns how
// long to wait.
func (b *Bucket) TryTake(r Rate, now time.Duration) time.Duration {
	wait := b.Take(r, 1, now)
	if wait > 0 {
		b.used--
	}
	return wait
}

// Full reports whether nothing is in use.
func (b *Bucket) Full(r Rate, now time.Duration) bool {
	b.refill(r, now)
	return b.used == 0
}

func (b *Bucket) refill(r Rate, now time.Duration) {
	b.used = max(0, b.used-r.PerSecond*(now-b.at).Seconds())
	b.at = now
}
