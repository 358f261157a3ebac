package realtime

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/realtime-go/realtime/internal/admission"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/ratelog"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/session"
	"github.com/realtime-go/realtime/internal/shardmap"
	"github.com/realtime-go/realtime/internal/shrink"
	"github.com/realtime-go/realtime/internal/transport"
	"github.com/realtime-go/realtime/internal/wire"
)

// candidate is who wants in.
type candidate struct {
	user    string
	address netip.Addr
	began   admission.Decision // to let him in
}

// reserve keeps a place for a connection, which cancel gives back, or gate.leave once it is open. It
// waits for the user's lock, and nobody else waits for it meanwhile.
func (ss *registry) reserve(e candidate) error {
	if err := ss.m.revocations.Check(e.began, admission.Subject{User: e.user}); err != nil {
		return err
	}
	if err := ss.m.capacity.Reserve(e.address); err != nil {
		return err
	}
	if !ss.m.users.reserve(e.user) {
		ss.m.capacity.Release(e.address)
		return errUserFull
	}
	return nil
}

// cancel gives back the place of a connection that never came to be.
func (ss *registry) cancel(e candidate) {
	ss.m.users.unreserve(e.user)
	ss.m.capacity.Release(e.address)
}

// registry opens connections that the gate has let in, and cleans up after them.
type registry struct {
	m        *Manager
	pool     session.Pool
	first    sync.Once
	work     sync.WaitGroup   // queues and clean-up
	handlers session.Handlers // that may outlive their connections
}

func newRegistry(m *Manager) *registry {
	ss := &registry{m: m}
	ss.pool = session.Pool{
		Queues: sendqueue.Config{
			MaxMessages: m.opts.Limits.QueueMessages, MaxBytes: m.opts.Limits.QueueBytes,
			WriteTimeout: m.opts.Timeouts.Write, Go: ss.work.Go, Totals: &m.counters.Queues,
			Flushers: sendqueue.NewFlushers(m.background.Go),
		},
		Wheel: m.wheel, Counters: &m.counters, Limits: newLimits(&m.opts),
		MaxMessage:   m.opts.Limits.MessageBytes,
		PingInterval: m.opts.Timeouts.Ping, PongTimeout: m.opts.Timeouts.Pong,
	}
	return ss
}

// register opens a connection that the gate has let in.
func (ss *registry) register(ctx context.Context, t transport.Transport, id Identity, e candidate) (*Conn, error) {
	ss.first.Do(ss.m.watchStale)
	c := ss.newConn(ctx, t, id, e)
	// Before it can end, which takes it out again.
	ss.m.conns.byID.GetOrPut(c.id, func() *Conn { return c })
	if ss.m.capacity.Closed() { // Close may have looked before c could be found
		c.session.End(&CloseError{Cause: CauseShutdown, Code: CloseRestart}, transport.CloseGrace)
	}
	top, err := ss.open(c)
	ss.welcome(c, top)
	if err := ss.admit(c, err); err != nil {
		return nil, err
	}
	// Only now, when commands run at once: a client that has been answered may send one message
	// and disconnect, and the end drops what waits for a handler.
	c.session.Open()
	c.watchExpiry()
	return c, nil
}

// open opens the inbox of a connection, if there are any, and returns the offset of the newest
// message in it. It waits for the broker until the connection ends, which the Manager may do.
func (ss *registry) open(c *Conn) (top uint64, err error) {
	if top, err = ss.m.inboxes.open(c.session.Context(), c); err != nil && !c.session.Ended() {
		ss.m.fetcher.Failed(c.session.Context(), err)
		c.session.End(&CloseError{
			Cause: CauseServer, Code: CloseInternal, Reason: "internal error", Err: err,
		}, transport.CloseGrace)
	}
	return top, err
}

// admit asks OnConnect, unless there is an error already, and takes a connection into the lists.
// What comes in meanwhile waits.
func (ss *registry) admit(c *Conn, err error) error {
	c.session.Pause()
	defer c.session.Resume()
	c.session.Start() // also if it has ended: to see the peer's close frame
	if err == nil {
		err = ss.connect(c)
	}
	switch {
	case ss.m.conns.add(c):
		return nil
	case err != nil:
		return err
	default:
		return c.session.Why() // the context may not have ended yet
	}
}

// welcome says welcome.
func (ss *registry) welcome(c *Conn, top uint64) {
	g := wire.Greeting{
		Conn: c.id, User: c.UserID(), MaxMessage: ss.m.opts.Limits.MessageBytes, ComeBack: ss.reconnectTime(),
	}
	if g.Session = ss.m.detached.token(c); g.Session != "" {
		g.Grace = ss.m.detached.grace
	}
	if c.inbox != nil {
		g.Inbox, g.Top = c.inbox.Position(), top
	}
	c.give(&wire.Frames{M: wire.Welcome(c.proto, g)}, sendqueue.Reply)
}

// reconnectTime is how long it takes to let in as many connections as there have been: if all are
// lost at once, they should not come back sooner.
func (ss *registry) reconnectTime() time.Duration {
	return ss.m.addresses.Span(int(ss.m.counters.PeakConns()))
}

func (ss *registry) newConn(ctx context.Context, t transport.Transport, id Identity, e candidate) *Conn {
	c := &Conn{
		m: ss.m, id: "conn_" + uuid.NewString(), identity: id, address: e.address, began: e.began,
		expires: id.deadline(time.Now()),
	}
	values := context.WithValue(context.WithoutCancel(ctx), connKey{&ss.handlers}, c)
	c.session.Init(values, &ss.pool, t, (*connHandler)(c))
	c.receiver = receiver{
		queue: c.session.Queue(), proto: c.session.Protocol(), deflates: c.session.Deflates(),
	}
	ss.m.speakers.Add(c.proto, c.deflates, 1)
	return c
}

// connect asks OnConnect, and ends the connection if it says no.
func (ss *registry) connect(c *Conn) error {
	if ss.m.opts.OnConnect == nil {
		c.connected.Store(true)
		return nil
	}
	returned := false
	defer func() {
		if !returned { // runtime.Goexit; guard has ended the connection
			ss.m.conns.add(c) // gives its user's place back
		}
	}()
	err := c.guard(func() error { return ss.m.opts.OnConnect(c.Context(), c) })
	returned = true
	if err == nil {
		c.connected.Store(true)
		return nil
	}
	why := &CloseError{Cause: CauseRefused, Code: CloseRefused, Reason: "refused", Err: err}
	if ce, ok := errors.AsType[*CloseError](err); ok && ce != nil && ce.Code.Sendable() {
		why.Code, why.Reason = ce.Code, ce.Reason
	}
	c.session.End(why, transport.CloseGrace)
	return err
}

// cleanUp cleans up after a connection that has ended. The announcements come
// first; they wait for nothing.
func (ss *registry) cleanUp(c *Conn, why *CloseError) {
	defer ss.m.capacity.Release(c.address)
	c.session.StopHeartbeat()
	if e := c.expiry.Load(); e != nil {
		e.stop()
	}
	ss.m.counters.Add(metrics.Ended(why.Cause), 1)
	stays := ss.m.detached.keep(c, why)
	departs := !stays && ss.m.conns.remove(c) != gone // else another one has its place already
	<-c.queue.Done()
	if departs {
		ss.m.inboxes.connGone(c)
	}
	c.session.Close()
	ss.m.fetcher.End(&c.lagging)
	if !stays {
		ss.m.conns.byID.CompareAndDelete(c.id, c)
	}
	ss.m.speakers.Add(c.proto, c.deflates, -1)
	ss.logEnd(c, why)
	ss.handlers.Go(func() {
		c.session.Wait()
		if ss.m.opts.OnDisconnect != nil && c.connected.Load() {
			c.session.Do(func() { ss.disconnect(c, why) })
		}
	})
}

// disconnect tells OnDisconnect.
func (ss *registry) disconnect(c *Conn, why *CloseError) {
	_ = c.guard(func() error {
		ss.m.opts.OnDisconnect(context.WithoutCancel(c.Context()), c, why)
		return nil
	})
}

// logEnd writes the line that a connection gets when it ends, the first of a second from the
// same address and by the same cause.
func (ss *registry) logEnd(c *Conn, why *CloseError) {
	level := slog.LevelDebug
	switch why.Cause {
	case CauseTimeout, CauseSlow, CauseProtocol, CauseRate, CauseRefused, CauseExpired:
		level = slog.LevelInfo
	}
	if !ss.m.opts.Logger.Enabled(c.session.Context(), level) {
		return
	}
	info := c.Info()
	ss.m.log.Log(c.session.Context(), level, c.source()+" "+why.Cause.String(), "realtime: connection ended",
		slog.String("conn", c.id), slog.String("user", c.UserID()),
		slog.String("remote", info.RemoteAddr), slog.String("cause", why.Cause.String()),
		slog.Int("code", int(why.Code)), slog.String("reason", ratelog.Clip(why.Reason)),
		slog.Duration("lasted", time.Since(c.session.Opened())),
		slog.Uint64("received", info.Received), slog.Uint64("sent", info.Sent),
		slog.Uint64("dropped", info.Dropped))
}

// lists are the connections of this process: each one by its id, the live ones for messages to all,
// and by users and rooms. A change is announced in the critical section in which it happens.
//
// Locks are taken in this order: user, connection, room or all, queue.
type lists struct {
	m        *Manager
	byID     *shardmap.Map[*Conn]
	everyone connList
}

func newLists(m *Manager) *lists { return &lists{m: m, byID: shardmap.New[*Conn]()} }

// find returns the connection with this id, or nil if there is none or it has ended.
func (l *lists) find(id string) *Conn {
	if c, ok := l.byID.Get(id); ok && !c.session.Ended() {
		return c
	}
	return nil
}

// add makes a connection live and tells everybody else, if it is its user's first.
// It reports false if the connection has ended; then nobody was told of it.
func (l *lists) add(c *Conn) bool {
	user := c.UserID()
	if user == "" {
		if !l.addToAll(c) {
			return false
		}
		l.showRooms(c)
		return true
	}
	notice := l.m.announcer.userNotice(wire.UserJoined, user)
	u := l.m.users.enter(user)
	defer l.m.users.leave(u)
	if err := l.m.revocations.Find(c.began, admission.Subject{User: user}); err != nil {
		code := CloseRefused
		if err.Unsure { // so that its client comes back
			code = CloseInternal
		}
		c.session.End(&CloseError{
			Cause: CauseRefused, Code: code, Reason: "denied", Err: err,
		}, transport.CloseGrace)
	}
	if !l.addToAll(c) {
		u.pending--
		return false
	}
	if l.m.users.add(u, c) {
		l.m.announcer.tellAll(notice, c)
	}
	l.m.users.makeRoom(u)
	l.showRooms(c)
	if c.inbox != nil {
		c.inbox.Start()
	}
	return true
}

// addToAll takes a connection into the list of all.
func (l *lists) addToAll(c *Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session.Ended() {
		return false
	}
	c.phase = live
	l.everyone.add(c)
	l.m.counters.Opened()
	return true
}

// remove takes a connection out of everything, and returns what it was. Whoever is told of it
// finds rosters and statistics without it.
func (l *lists) remove(c *Conn) (was phase) {
	c.mu.Lock()
	was = c.phase
	c.phase = gone
	for c.rooms.newest != nil {
		l.m.joins.remove(c, c.rooms.newest)
	}
	c.mu.Unlock()
	if was == live || was == absent {
		l.removeUser(c, was)
	}
	return was
}

// removeUser takes a connection out of the lists, and tells everybody if it was its user's last.
func (l *lists) removeUser(c *Conn, was phase) {
	user := c.UserID()
	if user == "" {
		l.removeFromAll(c, was)
		return
	}
	notice := l.m.announcer.userNotice(wire.UserLeft, user)
	u := l.m.users.enter(user)
	defer l.m.users.leave(u)
	l.removeFromAll(c, was)
	last := l.m.users.remove
	if was == absent {
		last = l.m.users.forget
	}
	if last(u, c) {
		l.m.announcer.tellAll(notice, nil)
	}
}

// removeFromAll takes a connection out of the list of all, unless it is absent.
func (l *lists) removeFromAll(c *Conn, was phase) {
	if was == live {
		l.everyone.remove(c)
		l.m.counters.Closed()
	}
}

// showRooms shows a connection in the rooms that it joined before it was live.
func (l *lists) showRooms(c *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	oldest := c.rooms.newest
	for oldest != nil && oldest.older != nil {
		oldest = oldest.older
	}
	for m := oldest; m != nil; m = m.newer {
		notice := l.m.announcer.roomNotice(wire.RoomJoined, c, m.room)
		r := l.m.rooms.find(m.room)
		if !m.visible {
			r.show(m, notice)
		}
		r.mu.Unlock()
	}
}

// numConnShards cuts the list of all connections so that one who joins never waits
// for a walk over all of it.
const numConnShards = 64

// connList is the list of live connections, for messages to all.
type connList struct {
	order    sync.Mutex    // held by those who send to all: one order for everybody
	turn     atomic.Uint64 // spreads connections over the segments
	segments [numConnShards]connShard
}

type connShard struct {
	mu    sync.Mutex
	conns []*Conn
}

func (e *connList) add(c *Conn) {
	c.at.segment = uint8(e.turn.Add(1) % numConnShards)
	s := &e.segments[c.at.segment]
	s.mu.Lock()
	defer s.mu.Unlock()
	c.at.index = len(s.conns)
	s.conns = append(s.conns, c)
}

func (e *connList) remove(c *Conn) {
	s := &e.segments[c.at.segment]
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.conns) - 1
	s.conns[c.at.index] = s.conns[last]
	s.conns[c.at.index].at.index = c.at.index
	s.conns = shrink.Pop(s.conns)
}

// walk calls f for every connection, with one segment locked.
func (e *connList) walk(f func(*Conn)) {
	for i := range e.segments {
		s := &e.segments[i]
		s.mu.Lock()
		for _, c := range s.conns {
			f(c)
		}
		s.mu.Unlock()
	}
}

// snapshot returns all connections.
func (e *connList) snapshot() []*Conn {
	var all []*Conn
	e.walk(func(c *Conn) { all = append(all, c) })
	return all
}
