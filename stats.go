package realtime

import (
	"time"

	"github.com/realtime-go/realtime/internal/metrics"
)

// Stats is a snapshot of a Manager: first gauges, then counters since New. The counters are read
// one after another while messages are sent.
//
// Stats is the only source of numbers. To export metrics, call [Manager.Stats] whenever they are
// requested. To count the events of an interval, see [Stats.Sub].
//
// Each frame that is given to a connection counts in Matched, and later in exactly one of Written,
// the Dropped counters and Lost. Until then it is queued.
type Stats struct {
	// Conns is the number of open connections, PeakConns the largest number so far.
	Conns, PeakConns int
	// Direct is how many of them have a socket that is written to without a goroutine of the
	// connection's own: plain TCP and Unix sockets on Unix systems.
	Direct int
	// Deflating is how many of them negotiated compression, see Options.CompressFrom.
	Deflating int
	// Users is the number of users with a connection, Rooms the number of rooms with a member.
	// Both include detached sessions, see Timeouts.Resume.
	Users, Rooms int
	// RoomEvents is the number of events that wait for Options.OnRoom, or that it is handling.
	RoomEvents int
	// QueuedBytes is the memory of the messages that wait to be written, each once for all
	// connections for which it waits.
	QueuedBytes int64
	// MemoryBytes is the part of Limits.MemoryBytes that is in use, see there. It includes
	// QueuedBytes.
	MemoryBytes int64
	// Rate is the number of messages a second, over the last ten seconds.
	Rate float64
	// Updated is when a connection last opened or ended or a message was last sent, to a
	// millisecond. Zero: never.
	Updated time.Time

	Accepted uint64 // connections that opened
	Messages uint64 // messages sent, each once for all receivers
	Received uint64 // messages received from clients

	CaughtUp    uint64 // kept messages given to lagging connections
	Unrecovered uint64 // gaps reported to connections: messages that cannot be recovered
	DeadLetters uint64 // dead letters, see InboxOptions.Attempts
	Resumed     uint64 // sessions that were resumed over a new connection

	Compressed uint64 // messages and frames of presence that were compressed, each once

	Matched        uint64 // frames given to connections
	Written        uint64 // frames written to their sockets
	DroppedOldest  uint64 // frames dropped by SlowDropOldest
	DroppedNewest  uint64 // frames dropped by SlowDropNewest, or left to history by SlowCatchUp
	DroppedNotices uint64 // notices dropped because the queue was half full, or memory short
	// DroppedEphemeral are ephemeral messages dropped because too much waited, or memory was short,
	// see Message.Ephemeral.
	DroppedEphemeral uint64
	Lost             uint64 // frames that were queued when their connection ended

	Ended EndedStats // connections that ended, by cause

	RefusedOrigin   uint64 // upgrades and REST calls refused by the origin check
	RefusedHost     uint64 // upgrades and REST calls for a host that is not allowed
	RefusedAuth     uint64 // upgrades refused by Authenticate, or because the user is denied
	RefusedLimit    uint64 // upgrades above a limit of connections, rate or memory, REST joins
	RefusedShutdown uint64 // upgrades refused because the Manager is closing
	RefusedRequest  uint64 // requests that were not a valid upgrade or REST call

	Denied uint64 // actions of clients and of REST callers that were not authorised
	// Ignored are inbound messages that do not belong to the protocol, and ephemeral ones that
	// arrived while the backlog of a handler was full.
	Ignored   uint64
	Failed    uint64 // inbound messages whose handling failed, and errors of the broker
	Throttled uint64 // inbound messages that waited for the rate limit
	Panics    uint64 // panics of application code
}

// EndedStats counts ended connections by [Cause].
type EndedStats struct {
	Client, Lost, Timeout, Slow, Server, Shutdown, Protocol, Rate uint64
	Refused, Expired, Replaced, Panic                             uint64
}

// Sub returns what the counters have counted between old and s. The gauges are those of s.
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

		metrics.Written:          &s.Written,
		metrics.DroppedOldest:    &s.DroppedOldest,
		metrics.DroppedNewest:    &s.DroppedNewest,
		metrics.DroppedNotices:   &s.DroppedNotices,
		metrics.DroppedEphemeral: &s.DroppedEphemeral,
		metrics.Lost:             &s.Lost,
	}
}

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
