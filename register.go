package realtime

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

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

// candidate is a connection that asks for admission.
type candidate struct {
	user    string
	address netip.Addr
	began   admission.Decision // when its admission began
	key     string             // see Conn.presenceKey
}

// registry opens connections that were admitted, and cleans up after them.
type registry struct {
	m        *Manager
	pool     session.Pool
	first    sync.Once            // starts the search for stale connections
	work     sync.WaitGroup       // queues, and connections that are not cleaned up yet
	handlers session.HandlerGroup // may outlive their connections
}

func newRegistry(m *Manager) *registry {
	r := &registry{m: m}
	r.pool = session.Pool{
		Queues: sendqueue.Config{
			MaxMessages: m.opts.Limits.QueueMessages, MaxBytes: m.opts.Limits.QueueBytes,
			WriteTimeout: m.opts.Timeouts.Write, Go: r.work.Go, Totals: &m.counters.Queues,
			Flushers: sendqueue.NewFlushers(m.background.Go),
		},
		Wheel: m.wheel, Counters: &m.counters, Limits: newLimits(&m.opts),
		MaxMessage:   m.opts.Limits.MessageBytes,
		PingInterval: m.opts.Timeouts.Ping, PongTimeout: m.opts.Timeouts.Pong,
	}
	return r
}

// reserve takes a place for a connection. The place must be released by cancel, or by cleanUp after
// register.
func (r *registry) reserve(cand candidate) error {
	if err := r.m.revocations.Check(cand.began, admission.Subject{User: cand.user}); err != nil {
		return err
	}
	if err := r.m.capacity.Reserve(cand.address); err != nil {
		return err
	}
	if !r.m.users.reserve(cand.user) {
		r.m.capacity.Release(cand.address)
		return errUserFull
	}
	return nil
}

// cancel releases the place of a connection that was never registered.
func (r *registry) cancel(cand candidate) {
	r.m.users.unreserve(cand.user)
	r.m.capacity.Release(cand.address)
}

// register opens a connection that has a place.
func (r *registry) register(
	ctx context.Context, t transport.Transport, id Identity, cand candidate,
) (*Conn, error) {
	r.first.Do(r.m.watchStale)
	c := r.newConn(ctx, t, id, cand)
	// Before it can end: the end removes it.
	r.m.conns.byID.GetOrPut(c.id, func() *Conn { return c })
	if r.m.capacity.Closed() { // Close may have walked the list before c was in it
		why := &CloseError{Cause: CauseShutdown, Code: CloseRestart}
		c.session.End(why, transport.CloseGrace)
	}
	top, err := r.open(c)
	r.welcome(c, top) // not sent if open has ended the connection
	if err := r.admit(ctx, c, err); err != nil {
		return nil, err
	}
	// Writing starts only now, when commands run at once. A client that has received the welcome
	// may send a message and disconnect, and the end of a connection drops commands that wait.
	c.session.Open()
	c.watchExpiry()
	return c, nil
}

// open opens the inbox of a connection, if there are inboxes, and returns the offset of the newest
// message in it. It waits for the broker, and for what other nodes send to the user to arrive, until
// the connection ends, for example by Close.
func (r *registry) open(c *Conn) (top uint64, err error) {
	r.m.node.Wait(c.session.Context())
	r.m.users.wait(c.session.Context(), c.UserID())
	if top, err = r.m.inboxes.open(c.session.Context(), c); err != nil && !c.session.Ended() {
		r.m.fetcher.Failed(c.session.Context(), err)
		(*subscriber)(c).Fail(err)
	}
	return top, err
}

// admit calls OnConnect, unless opening has failed with err, and makes the connection live.
// Commands that arrive meanwhile wait. ctx is that of the caller of Register, and may be of OnRoom,
// which cannot wait for its own events.
func (r *registry) admit(ctx context.Context, c *Conn, err error) error {
	c.session.Pause()
	defer c.session.Resume()
	c.session.Start() // even if it has ended: to see the peer's close frame
	if err == nil {
		err = r.connect(c)
	}
	if err == nil && r.m.opts.OnRoom != nil && !inHandler(ctx, &r.handlers) {
		_ = r.m.events.waitSpace(c.session.Context(), c.Rooms()...) // fails only if c has ended
	}
	switch {
	case r.m.conns.add(c):
		return nil
	case err != nil:
		return err
	default:
		return c.session.Why() // the context may not have ended yet
	}
}

func (r *registry) welcome(c *Conn, top uint64) {
	g := wire.WelcomeContent{
		Conn: c.id, User: c.UserID(), MaxMessage: r.m.opts.Limits.MessageBytes,
		ReconnectAfter: r.reconnectTime(),
	}
	if g.Session = r.m.detached.token(c); g.Session != "" {
		g.ResumeWithin = r.m.detached.grace
	}
	if c.inbox != nil {
		g.Inbox, g.Top = c.inbox.Position(), top
	}
	c.give(&wire.Frames{Message: wire.Welcome(c.proto, g)}, sendqueue.Reply)
	if c.UserID() != "" {
		r.m.conns.opening.GetOrPut(c.id, func() *Conn { return c })
	}
}

// reconnectTime returns how long it takes to admit as many connections as have been open at once.
// If all of them are lost together, they should spread their reconnects over that time.
func (r *registry) reconnectTime() time.Duration {
	return r.m.addresses.Span(int(r.m.counters.PeakConns()))
}

func (r *registry) newConn(
	ctx context.Context, t transport.Transport, id Identity, cand candidate,
) *Conn {
	id.Info, _ = checkInfo(bytes.Clone(id.Info)) // validate has found no error
	c := &Conn{
		m: r.m, id: r.m.node.NewConn(), identity: id,
		address: cand.address, began: cand.began,
	}
	c.session.Init(ctx, &r.pool, t, (*connHandler)(c))
	c.setDeadline(id)
	c.receiver = receiver{
		queue: c.session.Queue(), proto: c.session.Protocol(), deflates: c.session.Deflates(),
	}
	if c.proto == wire.ProtoV1 {
		c.presenceKey = cand.key
	}
	r.m.speakers.Add(c.proto, c.deflates, 1)
	return c
}

// connect calls OnConnect, and ends the connection if it returns an error.
func (r *registry) connect(c *Conn) error {
	if r.m.opts.OnConnect == nil {
		c.connected.Store(true)
		return nil
	}
	returned := false
	defer func() {
		if !returned { // runtime.Goexit; guard has ended the connection
			r.m.conns.add(c) // releases the place of its user
		}
	}()
	err := c.guard(func() error { return r.m.opts.OnConnect(c.Context(), c) })
	returned = true
	if err == nil {
		c.connected.Store(true)
		return nil
	}
	why := &CloseError{Cause: CauseRefused, Code: CloseRefused, Reason: "refused", Err: err}
	if errors.Is(err, ErrUnavailable) { // for example of a join
		why.Code, why.Reason = CloseLater, temporarilyUnavailable
	}
	if ce, ok := errors.AsType[*CloseError](err); ok && ce != nil && ce.Code.Sendable() {
		why.Code, why.Reason = ce.Code, ce.Reason
	}
	c.session.End(why, transport.CloseGrace)
	return err
}

// cleanUp removes a connection that has ended. The notices come first, so that they wait for
// nothing.
func (r *registry) cleanUp(c *Conn, why *CloseError) {
	defer r.m.capacity.Release(c.address)
	c.session.StopHeartbeat()
	if s := c.state.Load(); s != nil {
		s.pace.Close()
	}
	if e := c.expiry.Load(); e != nil {
		e.stop()
	}
	r.m.counters.Add(metrics.Ended(why.Cause), 1)
	detached := r.m.detached.keep(c, why)
	if detached {
		why = r.m.detached.withGrace(why)
	}
	// If it is gone already, another connection has resumed its session.
	departs := !detached && r.m.conns.remove(c) != gone
	<-c.queue.Done()
	if departs {
		r.m.inboxes.connGone(c)
	}
	c.session.Close()
	r.m.fetcher.End(&c.lagging)
	if !detached {
		r.m.conns.byID.CompareAndDelete(c.id, c)
	}
	r.m.speakers.Add(c.proto, c.deflates, -1)
	r.logEnd(c, why)
	r.handlers.Go(func() {
		c.session.Wait()
		if r.m.opts.OnDisconnect != nil && c.connected.Load() {
			c.session.Do(func() { r.disconnect(c, why) })
		}
	})
}

// disconnect calls OnDisconnect.
func (r *registry) disconnect(c *Conn, why *CloseError) {
	_ = c.guard(func() error {
		r.m.opts.OnDisconnect(context.WithoutCancel(c.Context()), c, why)
		return nil
	})
}

// logEnd logs the end of a connection. Lines with the same address and cause share a rate limit.
func (r *registry) logEnd(c *Conn, why *CloseError) {
	level := slog.LevelDebug
	switch why.Cause {
	case CauseTimeout, CauseSlow, CauseProtocol, CauseRate, CauseRefused, CauseExpired:
		level = slog.LevelInfo
	}
	ctx := c.session.Context()
	if !r.m.opts.Logger.Enabled(ctx, level) {
		return
	}
	info, cause := c.Info(), why.Cause.String()
	r.m.log.Log(ctx, level, c.source()+" "+cause, "realtime: connection ended",
		slog.String("conn", c.id), slog.String("user", c.UserID()),
		slog.String("remote", info.RemoteAddr), slog.String("cause", cause),
		slog.Int("code", int(why.Code)), slog.String("reason", ratelog.Clip(why.Reason)),
		slog.Duration("lasted", time.Since(c.session.Opened())),
		slog.Uint64("received", info.Received), slog.Uint64("sent", info.Sent),
		slog.Uint64("dropped", info.Dropped))
}

// lists are the connections of this process: all of them by their ids, and the live ones for
// messages to all. It also adds them to the lists of users and rooms, and removes them. The notice
// of a change is sent in the critical section of the change. The order of locks is in
// docs/ARCHITECTURE.md.
type lists struct {
	m        *Manager
	byID     *shardmap.Map[*Conn]
	opening  *shardmap.Map[*Conn] // of users, from the welcome until they are live or refused
	everyone connList
}

func newLists(m *Manager) *lists {
	return &lists{m: m, byID: shardmap.New[*Conn](), opening: shardmap.New[*Conn]()}
}

// find returns the connection with this id, or nil if there is none or it has ended.
func (l *lists) find(id string) *Conn {
	if c, ok := l.byID.Get(id); ok && !c.session.Ended() {
		return c
	}
	return nil
}

// add makes a connection live, and sends the notice if it is its user's first. It reports false if
// the connection has ended; then no notice is sent.
func (l *lists) add(c *Conn) bool {
	user := c.UserID()
	if user == "" {
		if !l.addToAll(c) {
			return false
		}
		l.showRooms(c, nil)
		return true
	}
	notice := l.m.announcer.encode(wire.UserJoined, user)
	u := l.m.users.lockNew(user)
	defer l.m.users.unlock(u)
	defer l.opening.CompareAndDelete(c.id, c) // once it is among the connections of its user
	if err := l.m.revocations.Find(c.began, admission.Subject{User: user}); err != nil {
		code := CloseRefused
		if err.Unsure { // so that the client reconnects
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
		l.m.announcer.userCame(user, notice, c)
	}
	l.m.users.expelOldest(u)
	l.showRooms(c, u)
	if c.inbox != nil {
		c.inbox.Start()
	}
	return true
}

// addToAll makes a connection live and adds it to the list of all, unless it has ended.
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

// remove removes a connection from all lists, and returns its phase before. Presence and statistics
// change before the notices are sent.
func (l *lists) remove(c *Conn) (was phase) {
	c.mu.Lock()
	was = c.phase
	c.phase = gone
	c.keepRooms()
	for c.rooms.newest != nil {
		l.m.joins.remove(c, c.rooms.newest)
	}
	c.takeValues()
	c.mu.Unlock()
	if was == live || was == detachedPhase {
		l.removeUser(c, was)
	}
	return was
}

// removeUser removes a connection from the lists of its user and of all, and sends the notice if it
// was its user's last.
func (l *lists) removeUser(c *Conn, was phase) {
	user := c.UserID()
	if user == "" {
		l.removeFromAll(c, was)
		return
	}
	notice := l.m.announcer.encode(wire.UserLeft, user)
	u := l.m.users.lockNew(user)
	defer l.m.users.unlock(u)
	l.removeFromAll(c, was)
	remove := l.m.users.remove
	if was == detachedPhase {
		remove = l.m.users.forget
	}
	if wasLast := remove(u, c); wasLast {
		l.m.announcer.userLeft(user, notice)
	}
}

// removeFromAll removes a connection from the list of all. A detached session is not in it.
func (l *lists) removeFromAll(c *Conn, was phase) {
	if was == live {
		l.everyone.remove(c)
		l.m.counters.Closed()
	}
}

// showRooms makes a connection visible in the rooms that it joined before it was live, in the order
// of joining. Its user u is locked; nil if it is anonymous.
func (l *lists) showRooms(c *Conn, u *user) {
	c.mu.Lock()
	defer c.mu.Unlock()
	oldest := c.rooms.newest
	for oldest != nil && oldest.older != nil {
		oldest = oldest.older
	}
	for m := oldest; m != nil; m = m.newer {
		l.m.joins.show(m, u)
	}
}

// numConnSegments is the number of segments of the list of all connections. A connection that opens
// or ends waits only while its own segment is walked.
const numConnSegments = 64

// connList is the list of live connections, for messages to all.
type connList struct {
	order    sync.Mutex    // held while a message to all is sent: all receivers get one order
	turn     atomic.Uint64 // distributes connections over the segments
	segments [numConnSegments]connSegment
}

type connSegment struct {
	mu    sync.Mutex
	conns []*Conn
}

func (l *connList) add(c *Conn) {
	c.at.segment = uint8(l.turn.Add(1) % numConnSegments)
	s := &l.segments[c.at.segment]
	s.mu.Lock()
	defer s.mu.Unlock()
	c.at.index = int32(len(s.conns))
	s.conns = append(s.conns, c)
}

func (l *connList) remove(c *Conn) {
	s := &l.segments[c.at.segment]
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.conns) - 1
	s.conns[c.at.index] = s.conns[last]
	s.conns[c.at.index].at.index = c.at.index
	s.conns = shrink.Pop(s.conns)
}

// walk calls f for each connection, with the lock of its segment held.
func (l *connList) walk(f func(*Conn)) {
	for i := range l.segments {
		s := &l.segments[i]
		s.mu.Lock()
		for _, c := range s.conns {
			f(c)
		}
		s.mu.Unlock()
	}
}

// snapshot returns all connections.
func (l *connList) snapshot() []*Conn {
	var all []*Conn
	l.walk(func(c *Conn) { all = append(all, c) })
	return all
}
