package realtime

import (
	"sync/atomic"
	"time"

	"github.com/realtime-go/realtime/internal/ratelimit"
)

// ratePatience is how long a client may be slowed down without a break.
const ratePatience = 10 * time.Second

// limits is how much clients may send.
type limits struct{ messages, bytes, fanout, pings ratelimit.Rate }

// newLimits lets nobody send at once what would fill half of a receiver's queue: a client
// could end the others in his room with it, who have had no time to read.
func newLimits(o *Options) limits {
	return limits{
		messages: ratelimit.PerSecond(o.InboundRate).WithBurst(o.QueueMessages / 2),
		bytes:    ratelimit.PerSecond(o.InboundBytes).WithBurst(o.QueueBytes / 2),
		fanout:   ratelimit.PerSecond(o.InboundFanout),
		pings:    ratelimit.PerSecond(pingRate).WithBurst(pingBurst),
	}
}

// allowance is how much of the limits one client has used.
type allowance struct {
	messages, bytes, fanout, pings ratelimit.Bucket

	slowSince time.Duration // since when there has been a debt, on the clock of now; or 0
}

// ping takes a ping, and reports whether there was one left.
func (a *allowance) ping(l *limits, now time.Duration) bool {
	return a.pings.Take(l.pings, 1, now) == 0
}

// message takes a message of n bytes, and what the messages before it have cost. It returns how
// long the client has to wait, and whether it has had to for too long.
func (a *allowance) message(
	l *limits, n int, b *bill, now time.Duration,
) (wait time.Duration, tooLong bool) {
	wait = max(a.messages.Take(l.messages, 1+int(b.messages.Swap(0)), now),
		a.bytes.Take(l.bytes, n+int(b.bytes.Swap(0)), now),
		a.fanout.Take(l.fanout, int(b.receivers.Swap(0)), now))
	switch {
	case wait == 0:
		a.slowSince = 0
	case a.slowSince == 0:
		a.slowSince = now
	}
	return wait, wait > 0 && now-a.slowSince >= ratePatience
}

// rested says that the client has waited, and not sent on meanwhile.
func (a *allowance) rested() { a.slowSince = 0 }

// bill is what the messages of a client have cost beside themselves, of which its reader does not
// know yet. Safe for concurrent use.
type bill struct {
	messages  atomic.Int64 // decisions of the application: each as much as a message
	bytes     atomic.Int64 // that were read or sent because the client asked
	receivers atomic.Int64
}
