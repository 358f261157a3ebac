package realtime

import "time"

// bucket is a token bucket: rate tokens flow in each second until burst are there.
// It may go into debt, and says how long the debt takes to be paid. The zero value
// has no limit. Not safe for concurrent use.
type bucket struct {
	rate, burst float64
	tokens      float64
	at          time.Time
}

func newBucket(rate, burst int) bucket {
	if rate <= 0 {
		return bucket{}
	}
	return bucket{rate: float64(rate), burst: float64(burst), tokens: float64(burst)}
}

// take takes n tokens and returns how long to wait until none is owed.
func (b *bucket) take(n int, now time.Time) time.Duration {
	if b.rate == 0 {
		return 0
	}
	if !b.at.IsZero() {
		b.tokens = min(b.burst, b.tokens+b.rate*now.Sub(b.at).Seconds())
	}
	b.at = now
	b.tokens -= float64(n)
	if b.tokens >= 0 {
		return 0
	}
	return time.Duration(-b.tokens / b.rate * float64(time.Second))
}
