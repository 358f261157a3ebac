package realtime

import (
	"context"
	"time"
)

// observeEvery is how often an Observer is told.
const observeEvery = time.Second

// observe tells o what has been counted since the last time, until ctx ends, and
// then once more.
func observe(ctx context.Context, o Observer, t *tally) {
	ticker := time.NewTicker(observeEvery)
	defer ticker.Stop()
	var last Stats
	for stopped := false; !stopped; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			stopped = true
		}
		now := t.snapshot()
		delta := now.Sub(last)
		last = now
		for _, c := range delta.counters() {
			if *c.value != 0 {
				o.Add(c.name, int64(*c.value))
			}
		}
	}
}
