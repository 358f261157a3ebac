package metrics

import (
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/realtime-go/realtime/internal/disconnect"
	"github.com/realtime-go/realtime/internal/sendqueue"
)

// Counter names a number that only grows.
type Counter uint8

// The counters. The first disconnect.NumCauses are the connections that ended, by cause.
const (
	Accepted Counter = Counter(disconnect.NumCauses) + iota
	Compressed
	CaughtUp
	Unrecovered
	DeadLetters
	Resumed
	Received
	Matched
	Messages
	RefusedOrigin
	RefusedHost
	RefusedAuth
	RefusedLimit
	RefusedShutdown
	RefusedRequest
	Denied
	Ignored
	Failed
	Throttled
	Panics
	// The following are counted by the send queues, in Counters.Queues.
	Written
	DroppedOldest
	DroppedNewest
	DroppedNotices
	DroppedEphemeral
	Lost
	NumCounters
)

// Ended returns the counter of connections that ended by a cause.
func Ended(c disconnect.Cause) Counter { return Counter(c) }

// Counters are the numbers of a server. The zero value is ready. All methods are safe for
// concurrent use; the numbers are read one after another while others change.
type Counters struct {
	Queues sendqueue.Totals // of all send queues
	Users  atomic.Int64     // with a connection
	Rooms  atomic.Int64     // with a member

	stripes [numStripes]Stripe
	conns   atomic.Int64
	peak    atomic.Int64
	updated atomic.Int64 // Unix nanoseconds
	rate    rate
}

// Stripe is a part of each counter; the sum of all stripes is the value. Each message adds to several
// counters, so with one number for each, all cores would wait for the same memory.
type Stripe struct {
	counts [NumCounters]atomic.Uint64
	_      [2*cacheLine - NumCounters%cacheLine]uint64 // no line is in two stripes
}

const (
	numStripes = 16
	cacheLine  = 8 // in numbers
)

// severalCores is false where goroutines never run at the same time.
var severalCores = runtime.GOMAXPROCS(0) > 1

// Stripe returns a stripe at random. To keep it is cheaper than to choose one for each addition.
func (cs *Counters) Stripe() *Stripe {
	if severalCores {
		return &cs.stripes[rand.Uint32()%numStripes]
	}
	return &cs.stripes[0]
}

// Add adds n to a counter.
func (s *Stripe) Add(c Counter, n int) {
	if n > 0 {
		s.counts[c].Add(uint64(n))
	}
}

// Add adds n to a counter.
func (cs *Counters) Add(c Counter, n int) { cs.Stripe().Add(c, n) }

// Get returns the value of a counter.
func (cs *Counters) Get(c Counter) uint64 {
	switch c {
	case Written:
		return cs.Queues.Written.Load()
	case DroppedOldest:
		return cs.Queues.DroppedOldest.Load()
	case DroppedNewest:
		return cs.Queues.DroppedNewest.Load()
	case DroppedNotices:
		return cs.Queues.DroppedNotices.Load()
	case DroppedEphemeral:
		return cs.Queues.DroppedEphemeral.Load()
	case Lost:
		return cs.Queues.Lost.Load()
	}
	var n uint64
	for i := range cs.stripes {
		n += cs.stripes[i].counts[c].Load()
	}
	return n
}

// clockStep is how far back a time must be to mean that the clock was set back. A message counts at
// the time of its arrival, and its permission may have taken long.
const clockStep = time.Minute

// touch notes when something happened last. It writes once in a millisecond, because all cores read
// what it writes.
func (cs *Counters) touch(now time.Time) {
	at := now.UnixNano()
	if d := time.Duration(at - cs.updated.Load()); d >= time.Millisecond || d <= -clockStep {
		cs.updated.Store(at)
	}
}

// Opened counts a connection that has opened.
func (cs *Counters) Opened() {
	n := cs.conns.Add(1)
	for {
		peak := cs.peak.Load()
		if n <= peak || cs.peak.CompareAndSwap(peak, n) {
			break
		}
	}
	cs.Add(Accepted, 1)
	cs.touch(time.Now())
}

// Closed counts the end of a connection that had opened.
func (cs *Counters) Closed() {
	cs.conns.Add(-1)
	cs.touch(time.Now())
}

// Message counts a message that was sent.
func (cs *Counters) Message(now time.Time) {
	cs.rate.begin(now, cs)
	cs.Add(Messages, 1)
	cs.touch(now)
}

// Conns returns the number of open connections.
func (cs *Counters) Conns() int { return int(cs.conns.Load()) }

// PeakConns returns the largest number of open connections so far.
func (cs *Counters) PeakConns() int { return int(cs.peak.Load()) }

// Rate returns the number of messages a second, over the last ten seconds.
func (cs *Counters) Rate() float64 {
	return cs.rate.perSecond(time.Now(), cs.Get(Messages))
}

// Updated returns when a connection last opened or ended or a message was last sent, to a
// millisecond; zero if never.
func (cs *Counters) Updated() time.Time {
	at := cs.updated.Load()
	if at == 0 {
		return time.Time{}
	}
	return time.Unix(0, at)
}
