package redis

import (
	"context"
	"slices"
	"sync"
	"time"
)

// The ends of streams are compared these times after Subscribe, and those of all streams always.
const (
	soon, later, always = 300 * time.Millisecond, 3 * time.Second, time.Minute
	// gather is the time in which what is due is compared together.
	gather = 20 * time.Millisecond
)

// comparer compares the ends of streams in the engine with what was delivered, so that what nothing
// follows is found, too.
type comparer struct {
	b    *Broker
	wake chan struct{}

	mu     sync.Mutex
	queues [2][]due // for soon and later, each in the order of time
}

// due is a stream whose end is to be compared.
type due struct {
	stream string
	at     time.Time
}

func newComparer(b *Broker) *comparer { return &comparer{b: b, wake: make(chan struct{}, 1)} }

// soon compares the end of a stream after Subscribe.
func (c *comparer) soon(stream string) {
	now := time.Now()
	c.add(0, due{stream, now.Add(soon)})
	c.add(1, due{stream, now.Add(later)})
}

// now compares the end of a stream at once.
func (c *comparer) now(stream string) {
	c.mu.Lock()
	c.queues[0] = append([]due{{stream, time.Time{}}}, c.queues[0]...)
	c.mu.Unlock()
	c.signal()
}

func (c *comparer) add(queue int, d due) {
	c.mu.Lock()
	c.queues[queue] = append(c.queues[queue], d)
	first := len(c.queues[queue]) == 1
	c.mu.Unlock()
	if first {
		c.signal()
	}
}

func (c *comparer) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// take returns the streams that are due, and when the next ones are.
func (c *comparer) take(now time.Time) (streams []string, next time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := map[string]bool{}
	for i, q := range c.queues {
		for len(q) > 0 && !q[0].at.After(now) {
			if !seen[q[0].stream] {
				seen[q[0].stream] = true
				streams = append(streams, q[0].stream)
			}
			q = q[1:]
		}
		if len(q) == 0 {
			q = nil
		} else if next.IsZero() || q[0].at.Before(next) {
			next = q[0].at
		}
		c.queues[i] = q
	}
	return streams, next
}

// run compares until the broker closes.
func (c *comparer) run() {
	all := time.NewTicker(always)
	defer all.Stop()
	for {
		streams, next := c.take(time.Now())
		c.compare(streams)
		wait := always
		if !next.IsZero() {
			wait = max(gather, time.Until(next))
		}
		timer := time.NewTimer(wait)
		select {
		case <-c.b.ctx.Done():
			timer.Stop()
			return
		case <-c.wake:
		case <-timer.C:
		case <-all.C:
			c.compare(c.b.tails.Streams())
		}
		timer.Stop()
	}
}

// all compares the ends of all streams of a link.
func (c *comparer) all(l *link) {
	var mine []string
	for _, stream := range c.b.tails.Streams() {
		if c.b.link(c.b.names.bucket(stream)) == l {
			mine = append(mine, stream)
		}
	}
	c.compare(mine)
}

// compare compares the ends of streams, in batches. What fails is compared again.
func (c *comparer) compare(streams []string) {
	buckets := map[int][]string{}
	for _, stream := range streams {
		bucket := c.b.names.bucket(stream)
		buckets[bucket] = append(buckets[bucket], stream)
	}
	var running sync.WaitGroup
	defer running.Wait()
	for bucket, all := range buckets {
		running.Go(func() {
			for some := range slices.Chunk(all, batch) {
				c.compareSome(bucket, some)
			}
		})
	}
}

func (c *comparer) compareSome(bucket int, streams []string) {
	ctx, cancel := context.WithTimeout(c.b.ctx, c.b.options.Timeout)
	defer cancel()
	ends, err := c.b.ends(ctx, bucket, streams)
	if err != nil {
		for _, stream := range streams {
			if streams, _ := c.b.interest.in(stream); streams > 0 {
				c.add(0, due{stream, time.Now().Add(soon)})
			}
		}
		return
	}
	for i, stream := range streams {
		c.b.tails.Compare(stream, ends[i])
	}
}
