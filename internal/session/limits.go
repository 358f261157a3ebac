package session

import (
	"sync/atomic"
	"time"

	"github.com/realtime-go/realtime/internal/ratelimit"
)

// ratePatience is how long a client may be over a limit before it is closed. The time starts again
// whenever it has sent nothing more while it was made to wait, see rested.
const ratePatience = 10 * time.Second

// Limits are the rates at which a client may send.
type Limits struct{ Messages, Bytes, Fanout, Pings ratelimit.Rate }

// allowance is how much of the limits one client has used.
type allowance struct {
	messages, bytes, fanout, pings ratelimit.Bucket

	slowSince time.Duration // since when there has been a debt, on the clock of now; or 0
}

// ping counts a ping from the peer, and reports whether the limit allows it.
func (a *allowance) ping(l *Limits, now time.Duration) bool {
	return a.pings.Take(l.Pings, 1, now) == 0
}

// message charges the buckets for a message of n bytes, and for what b has collected since the last
// message. It returns how long the client has to wait, and whether it has been over a limit for too
// long.
func (a *allowance) message(
	l *Limits, n int, b *Bill, now time.Duration,
) (wait time.Duration, tooLong bool) {
	wait = max(a.messages.Take(l.Messages, 1+take(&b.messages), now),
		a.bytes.Take(l.Bytes, n+take(&b.bytes), now),
		a.fanout.Take(l.Fanout, take(&b.receivers), now))
	switch {
	case wait == 0:
		a.slowSince = 0
	case a.slowSince == 0:
		a.slowSince = now
	}
	return wait, wait > 0 && now-a.slowSince >= ratePatience
}

// rested notes that the client has waited, and has not sent meanwhile.
func (a *allowance) rested() { a.slowSince = 0 }

// take empties an item of a bill. Most are empty, and a load is cheaper than a swap.
func take(item *atomic.Int64) int {
	if item.Load() == 0 {
		return 0
	}
	return int(item.Swap(0))
}

// Bill is what the messages of a client cost beside themselves. The next message pays for it. It is
// safe for concurrent use.
type Bill struct{ messages, bytes, receivers atomic.Int64 }

// Decisions charges for n decisions of the application, each as much as a message.
func (b *Bill) Decisions(n int) { b.messages.Add(int64(n)) }

// Bytes charges for n bytes that were read or sent because the client asked.
func (b *Bill) Bytes(n int) { b.bytes.Add(int64(n)) }

// Receivers charges for n receivers of a message, or as much work.
func (b *Bill) Receivers(n int) {
	if n > 0 {
		b.receivers.Add(int64(n))
	}
}
