package realtime

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/realtime-go/realtime/internal/admission"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/ratelog"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/transport"
	"github.com/realtime-go/realtime/internal/wire"
)

// entrant is who wants in.
type entrant struct {
	user  string
	place netip.Addr
	began admission.Decision // to let him in
}

// enter keeps a place for a connection, which cancel gives back, or gate.leave once it is open. It
// waits for the user's lock, and nobody else waits for it meanwhile.
func (ss *sessions) enter(e entrant) error {
	if err := ss.index.revocations.Check(e.began, admission.Subject{User: e.user}); err != nil {
		return err
	}
	if err := ss.capacity.Reserve(e.place); err != nil {
		return err
	}
	if !ss.index.users.reserve(e.user) {
		ss.capacity.Release(e.place)
		return errUserFull
	}
	return nil
}

// cancel gives back the place of a connection that never came to be.
func (ss *sessions) cancel(e entrant) {
	ss.index.users.unreserve(e.user)
	ss.capacity.Release(e.place)
}

// sessions opens connections that the gate has let in, and cleans up after them.
type sessions struct {
	opts      *Options
	counters  *metrics.Counters
	notes     *ratelog.Logger
	index     *index
	capacity  *admission.Capacity
	addresses *admission.Addresses

	links      sendqueue.Config
	readers    readers
	heartbeats heartbeats
	expiries   expiries

	absences *absences

	first sync.Once
	begin func()         // called with the first connection
	work  sync.WaitGroup // links and clean-up
	tails tails          // handlers that outlive their connections
}

// register opens a connection that the gate has let in.
func (ss *sessions) register(ctx context.Context, t transport.Transport, id Identity, e entrant) (*Conn, error) {
	ss.first.Do(ss.begin)
	s := ss.newSession(ctx, t, id, e)
	c := &s.conn
	// Before it can end, which takes it out again.
	ss.index.conns.GetOrPut(c.id, func() *Conn { return c })
	if ss.capacity.Closed() { // Close may have looked before c could be found
		c.finish(&CloseError{Cause: CauseShutdown, Code: CloseRestart}, transport.CloseGrace)
	}
	top, err := ss.open(c)
	ss.greet(c, top)
	if err := ss.admit(s, err); err != nil {
		return nil, err
	}
	// Now that what comes in is handled at once: whoever is answered may say one thing and
	// leave, and what is read ahead is dropped then.
	c.link.Start()
	s.heart.start()
	s.renewed()
	return c, nil
}

// open opens the inbox of a connection, if there are any, and returns the offset of the newest
// message in it. It waits for the broker until the connection ends, which the Manager may do.
func (ss *sessions) open(c *Conn) (top uint64, err error) {
	if top, err = ss.index.openInbox(c.ctx, c); err != nil && !c.ended() {
		ss.index.fetcher.Failed(c.ctx, err)
		c.finish(&CloseError{
			Cause: CauseServer, Code: CloseInternal, Reason: "internal error", Err: err,
		}, transport.CloseGrace)
	}
	return top, err
}

// admit asks OnConnect, unless there is an error already, and takes a connection into the lists.
// What comes in meanwhile waits.
func (ss *sessions) admit(s *session, err error) error {
	s.reader.hold()
	defer s.reader.open()
	s.reader.start() // also of one that has ended: to see the peer's goodbye
	if err == nil {
		err = ss.connect(s)
	}
	switch {
	case ss.index.enter(&s.conn):
		return nil
	case err != nil:
		return err
	default:
		return s.conn.end.Load() // the context may not have ended yet
	}
}

// greet says welcome.
func (ss *sessions) greet(c *Conn, top uint64) {
	g := wire.Greeting{
		Conn: c.id, User: c.UserID(), MaxMessage: ss.opts.MaxMessageBytes, ComeBack: ss.comeBack(),
	}
	if g.Session = ss.absences.token(c); g.Session != "" {
		g.Grace = ss.absences.grace
	}
	if c.inbox != nil {
		g.Inbox, g.Top = c.inbox.Position(), top
	}
	give(c, ss.counters, &wire.Frames{M: wire.Welcome(c.proto, g)}, sendqueue.Reply)
}

// comeBack is how long it takes to let in as many connections as there have been: if all are
// lost at once, they should not come back sooner.
func (ss *sessions) comeBack() time.Duration {
	return ss.addresses.Span(int(ss.counters.PeakConns()))
}

// session is a connection with those who look after it, in one piece of memory.
type session struct {
	*sessions
	conn      Conn
	reader    reader
	heart     heartbeat
	expiry    atomic.Pointer[expiry] // nil until the identity has a time of expiry
	connected atomic.Bool            // OnConnect returned nil
}

func (ss *sessions) newSession(ctx context.Context, t transport.Transport, id Identity, e entrant) *session {
	s := &session{sessions: ss}
	c := &s.conn
	c.id, c.identity, c.opened, c.transport = "conn_"+uuid.NewString(), id, time.Now(), t
	c.place, c.began, c.expires = e.place, e.began, id.deadline(c.opened)
	c.deflates, c.proto = t.Deflates(), t.Protocol()
	ss.index.speakers.Add(c.proto, c.deflates, 1)
	values := context.WithValue(context.WithoutCancel(ctx), connKey{&ss.tails}, c)
	c.ctx, c.cancel = context.WithCancelCause(values)
	c.duties = s
	c.alive()
	s.reader.init(&ss.readers, c)
	s.heart = heartbeat{heartbeats: &ss.heartbeats, c: c}
	c.link = sendqueue.New(&ss.links, t.Wire(), s.failed)
	t.Attach(c.link, &s.reader, ss.opts.MaxMessageBytes)
	return s
}

// ended, yield, busy, renewed, run, ask, limit and failed are what the connection and its link ask
// of those above.
func (s *session) ended(why *CloseError) { go s.farewell(s, why) }
func (s *session) yield()                { s.reader.yield() }
func (s *session) busy() bool            { return s.reader.handling() }
func (s *session) failed(err error)      { s.conn.finish(linkError(err), slowGrace) }

func (s *session) renewed() {
	if e := s.expiries.of(&s.conn, &s.expiry); e != nil {
		e.watch()
	}
}

func (s *session) run(f func()) {
	s.tails.run(func() {
		s.reader.enter()
		defer s.reader.exit()
		f()
	})
}

func (s *session) ask(frame *sendqueue.Frame) { tell(&s.conn, s.counters, frame) }
func (s *session) limit() int                 { return s.opts.QueueBytes / 2 }

// slowGrace is transport.CloseGrace for a peer that reads too slowly: it gets the rest of the frame
// that is half written and then the close frame, as long as it takes something now and then.
const slowGrace = 5 * time.Second

// linkError is how a connection ends whose link gave up.
func linkError(err error) *CloseError {
	switch {
	case errors.Is(err, sendqueue.ErrOverflow):
		return &CloseError{Cause: CauseSlow, Code: CloseSlow, Reason: "reads too slowly", Err: err}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &CloseError{Cause: CauseTimeout, Code: CloseTimeout, Err: err}
	default:
		return &CloseError{Cause: CauseLost, Code: CloseLost, Err: err}
	}
}

// connect asks OnConnect, and ends the connection if it says no.
func (ss *sessions) connect(s *session) error {
	if ss.opts.OnConnect == nil {
		s.connected.Store(true)
		return nil
	}
	c, returned := &s.conn, false
	defer func() {
		if !returned { // runtime.Goexit; guard has ended the connection
			ss.index.enter(c) // gives its user's place back
		}
	}()
	err := guard(ss.notes, ss.counters, c, func() error { return ss.opts.OnConnect(c.ctx, c) })
	returned = true
	if err == nil {
		s.connected.Store(true)
		return nil
	}
	why := &CloseError{Cause: CauseRefused, Code: CloseRefused, Reason: "refused", Err: err}
	if ce, ok := errors.AsType[*CloseError](err); ok && ce != nil && ce.Code.Sendable() {
		why.Code, why.Reason = ce.Code, ce.Reason
	}
	s.conn.finish(why, transport.CloseGrace)
	return err
}

// farewell cleans up after a connection that has ended. The announcements come
// first; they wait for nothing.
func (ss *sessions) farewell(s *session, why *CloseError) {
	defer ss.capacity.Release(s.conn.place)
	s.heart.stop()
	if e := s.expiry.Load(); e != nil {
		e.stop()
	}
	ss.counters.Add(metrics.Ended(why.Cause), 1)
	stays := ss.absences.keep(&s.conn, why)
	departs := !stays && ss.index.depart(&s.conn) != gone // else another one has its place already
	<-s.conn.link.Done()
	if departs {
		ss.index.users.inboxes.departed(&s.conn)
	}
	s.reader.close()
	s.conn.transport.Release()
	ss.index.fetcher.End(&s.conn.lagging)
	if !stays {
		ss.index.conns.CompareAndDelete(s.conn.id, &s.conn)
	}
	ss.index.speakers.Add(s.conn.proto, s.conn.deflates, -1)
	ss.logEnd(&s.conn, why)
	ss.tails.run(func() {
		s.reader.wait()
		if ss.opts.OnDisconnect != nil && s.connected.Load() {
			ss.disconnect(s, why)
		}
	})
}

// disconnect tells OnDisconnect.
func (ss *sessions) disconnect(s *session, why *CloseError) {
	s.reader.enter()
	defer s.reader.exit()
	_ = guard(ss.notes, ss.counters, &s.conn, func() error {
		ss.opts.OnDisconnect(context.WithoutCancel(s.conn.ctx), &s.conn, why)
		return nil
	})
}

// logEnd writes the line that a connection gets when it ends, the first of a second from the
// same address and by the same cause.
func (ss *sessions) logEnd(c *Conn, why *CloseError) {
	level := slog.LevelDebug
	switch why.Cause {
	case CauseTimeout, CauseSlow, CauseProtocol, CauseRate, CauseRefused, CauseExpired:
		level = slog.LevelInfo
	}
	if !ss.opts.Logger.Enabled(c.ctx, level) {
		return
	}
	info := c.Info()
	ss.notes.Log(c.ctx, level, c.source()+" "+why.Cause.String(), "realtime: connection ended",
		slog.String("conn", c.id), slog.String("user", c.UserID()),
		slog.String("remote", info.RemoteAddr), slog.String("cause", why.Cause.String()),
		slog.Int("code", int(why.Code)), slog.String("reason", ratelog.Clip(why.Reason)),
		slog.Duration("lasted", time.Since(c.opened)),
		slog.Uint64("received", info.Received), slog.Uint64("sent", info.Sent),
		slog.Uint64("dropped", info.Dropped))
}
