package session

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"time"

	"github.com/realtime-go/realtime/internal/disconnect"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/timerwheel"
	"github.com/realtime-go/realtime/internal/transport"
	"github.com/realtime-go/realtime/internal/wire"
)

// slowGrace is transport.CloseGrace for a peer that reads too slowly. It gets the rest of the frame
// that is half written and then the close frame, as long as it takes something now and then.
const slowGrace = 5 * time.Second

// Handler is the connection that a session belongs to.
type Handler interface {
	// Command does what a command asks for. It is called for one command at a time, and not for
	// pings.
	Command(cmd wire.Command)
	// Ping answers a textual ping, at once and also while a command runs. It must not block.
	Ping()
	// Seen is called when the client says how many state frames have arrived. It waits for no code
	// of the application.
	Seen(frames uint64)
	// Ended is called once, when the session has begun to end. It must not block, and locks may be
	// held.
	Ended(why *disconnect.CloseError)
	// Value returns a value of the context of the session, or nil.
	Value(key any) any
}

// Pool is what sessions have in common.
type Pool struct {
	Queues     sendqueue.Config
	Wheel      *timerwheel.Wheel
	Counters   *metrics.Counters
	Limits     Limits
	MaxMessage int // bytes

	// PingInterval is after how much silence a ping is sent; zero means never. PongTimeout is how
	// long its answer may take; zero means for ever.
	PingInterval, PongTimeout time.Duration
}

// Session is one connection: its transport, its queue, and the goroutines and timers that serve
// both. All methods are safe for concurrent use, also after the end.
type Session struct {
	pool      *Pool
	handler   Handler
	transport transport.Transport
	queue     *sendqueue.Queue
	counters  *metrics.Stripe
	protocol  wire.Protocol
	refusedAt uint32 // when MayRefuse was last true, in milliseconds; 0: never. Used by commands only
	opened    time.Time
	values    context.Context // never ends
	ending    atomic.Pointer[ending]
	end       atomic.Pointer[disconnect.CloseError]

	// Times on the clock of now.
	seen    atomic.Int64 // when input arrived last
	reading atomic.Int64 // since when it has waited for input; 0 while it does not
	over    atomic.Int64 // when it ended; 0 before

	received      atomic.Uint64 // messages
	receivedBytes atomic.Uint64
	held          atomic.Int64 // bytes of memory of the message that is being read
	backlog       atomic.Int64 // bytes of commands that wait

	bill   Bill
	pings  pings
	calls  calls
	reader reader
	runner runner
	watch  watchdog
	heart  heartbeat
}

// Init makes a zero session ready: it attaches a queue to t. ctx gives the context its values; its
// end has no effect.
func (s *Session) Init(ctx context.Context, p *Pool, t transport.Transport, h Handler) {
	s.pool, s.handler, s.transport, s.protocol, s.opened = p, h, t, t.Protocol(), time.Now()
	s.setValues(ctx)
	s.counters = p.Counters.Stripe()
	s.alive()
	s.reader.s = s
	s.runner.s = s
	s.watch.init(s)
	s.heart.s = s
	s.queue = sendqueue.New(&p.Queues, t.Wire(), s.queueFailed)
	t.Attach(s.queue, &s.reader, p.MaxMessage)
}

// Open begins to write. The heartbeat begins with it.
func (s *Session) Open() {
	s.queue.Start()
	s.heart.start()
}

// Queue returns the send queue.
func (s *Session) Queue() *sendqueue.Queue { return s.queue }

// Protocol returns the protocol that the peer speaks.
func (s *Session) Protocol() wire.Protocol { return s.protocol }

// Deflates reports whether the peer takes compressed messages.
func (s *Session) Deflates() bool { return s.transport.Deflates() }

// RemoteAddr returns the address of the peer for humans.
func (s *Session) RemoteAddr() string { return s.transport.RemoteAddr() }

// Bill returns what the peer pays for beside its messages.
func (s *Session) Bill() *Bill { return &s.bill }

// Opened returns when Init was called.
func (s *Session) Opened() time.Time { return s.opened }

// Seen returns when a frame of any kind arrived last.
func (s *Session) Seen() time.Time { return s.opened.Add(time.Duration(s.seen.Load())) }

// Over returns when the session ended, or when it opened if it has not.
func (s *Session) Over() time.Time { return s.opened.Add(time.Duration(s.over.Load())) }

// Received returns the number of messages from the peer.
func (s *Session) Received() uint64 { return s.received.Load() }

// ReceivedBytes returns the number of bytes from the peer.
func (s *Session) ReceivedBytes() uint64 { return s.receivedBytes.Load() }

// HalfRead returns the memory of the message that is being read, in bytes.
func (s *Session) HalfRead() int64 { return s.held.Load() }

// Backlog returns the memory of the commands that wait, in bytes.
func (s *Session) Backlog() int64 { return s.backlog.Load() }

// Why returns why the session ended, or nil.
func (s *Session) Why() *disconnect.CloseError { return s.end.Load() }

// Ended reports whether the session has begun to end.
func (s *Session) Ended() bool { return s.end.Load() != nil }

// End ends the session and reports true, or false if it has ended. It does not wait and may be
// called with locks held. The peer has so much time to read what the cause lets it have.
func (s *Session) End(why *disconnect.CloseError, within time.Duration) bool {
	why.Reason = sendqueue.CutReason(why.Reason)
	if !s.end.CompareAndSwap(nil, why) {
		return false
	}
	s.over.Store(int64(s.now()))
	frame := func() *sendqueue.Frame { return sendqueue.CloseFrame(uint16(why.Code), why.Reason) }
	switch why.Cause {
	case disconnect.CauseLost:
		s.queue.Kill()
	case disconnect.CauseClient, disconnect.CauseServer, disconnect.CauseShutdown:
		s.queue.Close(frame(), within)
	default:
		s.queue.Abort(frame(), within)
	}
	s.cancelContext()
	s.runner.handOver() // a goroutine must read the peer's close frame
	s.handler.Ended(why)
	return true
}

// Expel ends the session because of what its peer did or did not do.
func (s *Session) Expel(cause disconnect.Cause, code disconnect.CloseCode, reason string) {
	s.End(&disconnect.CloseError{Cause: cause, Code: code, Reason: reason}, transport.CloseGrace)
}

// queueFailed ends the session because its queue has given up.
func (s *Session) queueFailed(err error) {
	why := &disconnect.CloseError{Cause: disconnect.CauseLost, Code: disconnect.CloseLost, Err: err}
	switch {
	case errors.Is(err, sendqueue.ErrOverflow):
		why.Cause, why.Code, why.Reason = disconnect.CauseSlow, disconnect.CloseSlow, "reads too slowly"
	case errors.Is(err, os.ErrDeadlineExceeded):
		why.Cause, why.Code = disconnect.CauseTimeout, disconnect.CloseTimeout
	}
	s.End(why, slowGrace)
}

// Close frees the transport, after End. It waits for the queue and for the goroutines of the
// session that do not run handlers.
func (s *Session) Close() {
	s.runner.close()
	s.transport.Release()
}

// refusalPause is the least time between two refusals that nobody has asked for.
const refusalPause = time.Second

// MayRefuse reports whether the peer may be told that a command was refused of which it expects no
// answer. Only a command may call it.
func (s *Session) MayRefuse() bool {
	now := uint32(s.now()/time.Millisecond) + 1 // may overflow: 49 days are not a second
	if s.refusedAt != 0 && now-s.refusedAt < uint32(refusalPause/time.Millisecond) {
		return false
	}
	s.refusedAt = now
	return true
}

// now returns the time since the session opened. It is never zero.
func (s *Session) now() time.Duration { return max(1, time.Since(s.opened)) }

// since returns now for a time.
func (s *Session) since(at time.Time) time.Duration { return max(1, at.Sub(s.opened)) }

func (s *Session) alive() { s.seen.Store(int64(s.now())) }

// lively returns when there was a sign of life last, on the clock of now: input, or the peer took
// something for which it had been too slow.
func (s *Session) lively() time.Duration {
	return max(time.Duration(s.seen.Load()), s.queue.Flowed().Sub(s.opened))
}

// Silence returns how long there could have been a sign of life and was none. It is zero while the
// session is not read.
func (s *Session) Silence() time.Duration { return s.silence(0) }

// silence is Silence since a time on the clock of now.
func (s *Session) silence(since time.Duration) time.Duration {
	reading := time.Duration(s.reading.Load())
	if reading == 0 {
		return 0
	}
	return s.now() - max(s.lively(), reading, since)
}
