// Package ratelimit provides a token bucket that may go into debt.
package ratelimit

import "time"

// limit is how much of something may be used: rate in a second, and burst at once. The zero
// value is without limit.
type Limit struct{ Rate, burst float64 }

func NewLimit(rate int, burst float64) Limit {
	return Limit{Rate: float64(max(rate, 0)), burst: burst}
}

// burstSeconds is how many seconds' worth of something may come at once.
const burstSeconds = 10

// burst is how much of something with this rate may come at once.
func Burst(rate int) float64 { return burstSeconds * float64(rate) }

// bucket is how much somebody has used of a limit: a token bucket, told by what is missing,
// so that the zero value is full. It may go into debt, and says how long the debt takes to
// be paid. Not safe for concurrent use.
type Bucket struct {
	missing float64
	at      time.Duration
}

// take takes n and returns how long to wait until none is owed. now is the time since
// whatever moment the caller counts from.
func (b *Bucket) Take(l Limit, n int, now time.Duration) time.Duration {
	if l.Rate == 0 {
		return 0
	}
	b.refill(l, now)
	b.missing += float64(n)
	return b.owed(l)
}

// try is take of one that takes nothing if it would have to wait.
func (b *Bucket) Try(l Limit, now time.Duration) time.Duration {
	wait := b.Take(l, 1, now)
	if wait > 0 {
		b.missing--
	}
	return wait
}

// full reports whether nothing is missing.
func (b *Bucket) Full(l Limit, now time.Duration) bool {
	b.refill(l, now)
	return b.missing == 0
}

func (b *Bucket) refill(l Limit, now time.Duration) {
	b.missing = max(0, b.missing-l.Rate*(now-b.at).Seconds())
	b.at = now
}

func (b *Bucket) owed(l Limit) time.Duration {
	if b.missing <= l.burst {
		return 0
	}
	return time.Duration((b.missing - l.burst) / l.Rate * float64(time.Second))
}
