package realtime

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/realtime-go/realtime/internal/disconnect"
	"github.com/realtime-go/realtime/internal/sendqueue"
)

// Stats is a snapshot of a Manager: gauges first, then counters since New. The
// counters are read one after another while traffic goes on.
//
// It is the one way to read numbers: to publish them, read it when they are asked for, and for
// what was counted in between see [Stats.Sub].
//
// A frame given to a connection is matched, and ends up in exactly one of Written,
// Dropped… and Lost; what is in none of them is still queued.
type Stats struct {
	// Conns is the number of open connections, PeakConns the largest it has been.
	Conns, PeakConns int
	// Direct is how many of them have a socket that is written to without a goroutine of
	// the connection's own: plain TCP and Unix sockets on Unix systems.
	Direct int
	// Deflating is how many of them negotiated compression, see Options.CompressFrom.
	Deflating int
	// Users is the number of users with a connection, Rooms that of rooms with a
	// member.
	Users, Rooms int
	// QueuedBytes is the memory that waits to be written takes, each message once
	// however many connections wait for it: what Options.MemoryBudget bounds.
	QueuedBytes int64
	// MemoryBytes is all that Options.MemoryBudget bounds: QueuedBytes, messages that are being
	// read or wait for a handler, the ids of messages that clients have sent in the last two minutes, connections that
	// were lost and may come back, and what is remembered of those that catch up.
	MemoryBytes int64
	// Rate is the number of messages a second, over the last ten seconds.
	Rate float64
	// Updated is when a connection last opened or ended or a message was last sent;
	// zero if never.
	Updated time.Time

	Accepted uint64 // connections that opened
	Messages uint64 // messages sent, each once however many received it
	Received uint64 // messages received from clients

	CaughtUp    uint64 // messages that connections were given from what is kept
	Unrecovered uint64 // times that a connection was told that it has missed something for good
	SetAside    uint64 // messages to users that were set aside, see InboxOptions.Attempts
	Resumed     uint64 // connections that took the place of one that was lost

	Compressed uint64 // messages that were compressed, each once however many received it

	Matched        uint64 // frames given to connections
	Written        uint64 // frames written to their sockets
	DroppedOldest  uint64 // dropped by SlowDropOldest
	DroppedNewest  uint64 // dropped by SlowDropNewest
	DroppedNotices uint64 // announcements that found the queue half full, or memory short
	Lost           uint64 // queued when their connection ended

	Ended EndedStats // connections that ended, by cause

	RefusedOrigin   uint64 // upgrades and REST calls refused by the origin check
	RefusedHost     uint64 // upgrades and REST calls for a host that is not allowed
	RefusedAuth     uint64 // upgrades refused by Authenticate, and of users who are denied
	RefusedLimit    uint64 // upgrades over a limit of connections, rate or memory, REST joins of rooms
	RefusedShutdown uint64 // upgrades refused because the Manager is closing
	RefusedRequest  uint64 // requests that were no valid upgrade or REST call

	Denied    uint64 // actions of clients and of REST callers that were not authorised
	Ignored   uint64 // inbound messages that were none of the protocol's
	Failed    uint64 // inbound messages for which OnMessage or Send returned an error
	Throttled uint64 // inbound messages that waited for the rate limit
	Panics    uint64 // panics of application code
}

// EndedStats counts ended connections by [Cause].
type EndedStats struct {
	Client, Lost, Timeout, Slow, Server, Shutdown, Protocol, Rate uint64
	Refused, Expired, Replaced, Panic                             uint64
}

// Sub returns what was counted between old and s. The gauges are those of s.
func (s Stats) Sub(old Stats) Stats {
	now, before := s.counters(), old.counters()
	for i := range now {
		*now[i] -= *before[i]
	}
	return s
}

type counter uint8

// The counters of Stats. The first numCauses are the ends, by cause.
const (
	cAccepted counter = counter(disconnect.NumCauses) + iota
	cMessages
	cCompressed
	cCaughtUp
	cUnrecovered
	cSetAside
	cResumed
	cReceived
	cMatched
	cRefusedOrigin
	cRefusedHost
	cRefusedAuth
	cRefusedLimit
	cRefusedShutdown
	cRefusedRequest
	cDenied
	cIgnored
	cFailed
	cThrottled
	cPanics
	cWritten
	cDroppedOldest
	cDroppedNewest
	cDroppedNotices
	cLost
	numCounters
)

func ended(c Cause) counter { return counter(c) }

// counters lists the counters of s in the order of the constants above.
func (s *Stats) counters() [numCounters]*uint64 {
	return [numCounters]*uint64{
		cAccepted:        &s.Accepted,
		cMessages:        &s.Messages,
		cCompressed:      &s.Compressed,
		cCaughtUp:        &s.CaughtUp,
		cUnrecovered:     &s.Unrecovered,
		cSetAside:        &s.SetAside,
		cResumed:         &s.Resumed,
		cReceived:        &s.Received,
		cMatched:         &s.Matched,
		cRefusedOrigin:   &s.RefusedOrigin,
		cRefusedHost:     &s.RefusedHost,
		cRefusedAuth:     &s.RefusedAuth,
		cRefusedLimit:    &s.RefusedLimit,
		cRefusedShutdown: &s.RefusedShutdown,
		cRefusedRequest:  &s.RefusedRequest,
		cDenied:          &s.Denied,
		cIgnored:         &s.Ignored,
		cFailed:          &s.Failed,
		cThrottled:       &s.Throttled,
		cPanics:          &s.Panics,

		CauseClient:   &s.Ended.Client,
		CauseLost:     &s.Ended.Lost,
		CauseTimeout:  &s.Ended.Timeout,
		CauseSlow:     &s.Ended.Slow,
		CauseServer:   &s.Ended.Server,
		CauseShutdown: &s.Ended.Shutdown,
		CauseProtocol: &s.Ended.Protocol,
		CauseRate:     &s.Ended.Rate,
		CauseRefused:  &s.Ended.Refused,
		CauseExpired:  &s.Ended.Expired,
		CauseReplaced: &s.Ended.Replaced,
		CausePanic:    &s.Ended.Panic,

		cWritten:        &s.Written,
		cDroppedOldest:  &s.DroppedOldest,
		cDroppedNewest:  &s.DroppedNewest,
		cDroppedNotices: &s.DroppedNotices,
		cLost:           &s.Lost,
	}
}

// tally is where a Manager counts. Its zero value is ready.
type tally struct {
	counts  [numCounters]atomic.Uint64
	frames  sendqueue.Totals
	conns   atomic.Int64
	peak    atomic.Int64
	users   atomic.Int64
	rooms   atomic.Int64
	updated atomic.Int64 // Unix nanoseconds
	rate    rate

	deflating atomic.Int64 // connections that negotiated compression
}

func (t *tally) add(c counter, n int) {
	if n > 0 {
		t.counts[c].Add(uint64(n))
	}
}

func (t *tally) touch(now time.Time) { t.updated.Store(now.UnixNano()) }

func (t *tally) opened() {
	n := t.conns.Add(1)
	for {
		peak := t.peak.Load()
		if n <= peak || t.peak.CompareAndSwap(peak, n) {
			break
		}
	}
	t.add(cAccepted, 1)
	t.touch(time.Now())
}

func (t *tally) gone() {
	t.conns.Add(-1)
	t.touch(time.Now())
}

func (t *tally) message(now time.Time) {
	t.add(cMessages, 1)
	t.rate.add(now)
	t.touch(now)
}

func (t *tally) snapshot() Stats {
	s := Stats{
		Conns: int(t.conns.Load()), PeakConns: int(t.peak.Load()),
		Direct: int(t.frames.Direct.Load()), Deflating: int(t.deflating.Load()),
		Users: int(t.users.Load()), Rooms: int(t.rooms.Load()),
		QueuedBytes: t.frames.Budget.Used(), MemoryBytes: t.frames.Budget.Total(),
		Rate: t.rate.perSecond(time.Now()),
	}
	if at := t.updated.Load(); at != 0 {
		s.Updated = time.Unix(0, at)
	}
	for i, c := range s.counters() {
		*c = t.counts[i].Load()
	}
	s.Written = t.frames.Written.Load()
	s.DroppedOldest = t.frames.DroppedOldest.Load()
	s.DroppedNewest = t.frames.DroppedNewest.Load()
	s.DroppedNotices = t.frames.DroppedNotices.Load()
	s.Lost = t.frames.Lost.Load()
	return s
}

const (
	rateWindow = 10 * time.Second
	rateCells  = 100
	rateCell   = rateWindow / rateCells
)

// rate counts events of the last rateWindow, in cells of a tenth of a second that
// are used in turn. Its zero value is ready.
type rate struct {
	mu    sync.Mutex
	cells [rateCells]struct{ at, n int64 }
}

func (r *rate) add(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := now.UnixNano() / int64(rateCell)
	cell := &r.cells[at%rateCells]
	if cell.at != at {
		cell.at, cell.n = at, 0
	}
	cell.n++
}

func (r *rate) perSecond(now time.Time) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := now.UnixNano() / int64(rateCell)
	var n int64
	for i := range r.cells {
		if cell := &r.cells[i]; cell.at > at-rateCells && cell.at <= at {
			n += cell.n
		}
	}
	return float64(n) / rateWindow.Seconds()
}
