package realtime

import (
	"time"

	"github.com/realtime-go/realtime/internal/metrics"
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
	// however many connections wait for it: what Limits.MemoryBytes bounds.
	QueuedBytes int64
	// MemoryBytes is all that Limits.MemoryBytes bounds: QueuedBytes, messages that are being
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
	DeadLetters uint64 // messages to users that were set aside, see InboxOptions.Attempts
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

// counters returns pointers to the counters of s, indexed by metrics.Counter.
func (s *Stats) counters() [metrics.NumCounters]*uint64 {
	return [metrics.NumCounters]*uint64{
		metrics.Accepted:        &s.Accepted,
		metrics.Messages:        &s.Messages,
		metrics.Compressed:      &s.Compressed,
		metrics.CaughtUp:        &s.CaughtUp,
		metrics.Unrecovered:     &s.Unrecovered,
		metrics.DeadLetters:     &s.DeadLetters,
		metrics.Resumed:         &s.Resumed,
		metrics.Received:        &s.Received,
		metrics.Matched:         &s.Matched,
		metrics.RefusedOrigin:   &s.RefusedOrigin,
		metrics.RefusedHost:     &s.RefusedHost,
		metrics.RefusedAuth:     &s.RefusedAuth,
		metrics.RefusedLimit:    &s.RefusedLimit,
		metrics.RefusedShutdown: &s.RefusedShutdown,
		metrics.RefusedRequest:  &s.RefusedRequest,
		metrics.Denied:          &s.Denied,
		metrics.Ignored:         &s.Ignored,
		metrics.Failed:          &s.Failed,
		metrics.Throttled:       &s.Throttled,
		metrics.Panics:          &s.Panics,

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

		metrics.Written:        &s.Written,
		metrics.DroppedOldest:  &s.DroppedOldest,
		metrics.DroppedNewest:  &s.DroppedNewest,
		metrics.DroppedNotices: &s.DroppedNotices,
		metrics.Lost:           &s.Lost,
	}
}

// newStats returns a snapshot.
func newStats(cs *metrics.Counters, deflating int) Stats {
	s := Stats{
		Conns: cs.Conns(), PeakConns: cs.PeakConns(),
		Direct: int(cs.Queues.Direct.Load()), Deflating: deflating,
		Users: int(cs.Users.Load()), Rooms: int(cs.Rooms.Load()),
		QueuedBytes: cs.Queues.Budget.Used(), MemoryBytes: cs.Queues.Budget.Total(),
		Rate: cs.Rate(), Updated: cs.Updated(),
	}
	for i, c := range s.counters() {
		*c = cs.Get(metrics.Counter(i))
	}
	return s
}
