package realtime

import (
	"context"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/admission"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/ratelog"
	"github.com/realtime-go/realtime/internal/recovery"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/timerwheel"
	"github.com/realtime-go/realtime/internal/transport"
	"github.com/realtime-go/realtime/internal/wire"
)

// Manager is the hub: it knows the connections, users and rooms of this process and
// sends messages to them. It is the http.Handler of the WebSocket endpoint, see
// [Manager.ServeHTTP], and makes that of the REST interface, see [Manager.API].
// All methods are safe for concurrent use, also after Close. No lock is held while
// code of the application, a socket or a broker runs.
type Manager struct {
	opts     Options
	counters metrics.Counters
	log      *ratelog.Logger
	wheel    *timerwheel.Wheel
	evictor  *evictor // before anything that is counted

	broker  *recovery.Broker
	fetcher *recovery.Fetcher

	addresses   *admission.Addresses
	capacity    *admission.Capacity
	revocations admission.Revocations
	endpoint    *endpoint

	conns     *lists
	users     *users
	rooms     *rooms
	inboxes   *inboxes
	joins     joins
	detached  *detached
	announcer announcer
	broadcast *broadcaster
	publisher publisher
	speakers  wire.Speakers
	commands  *commands
	registry  *registry

	sweeper timerwheel.Timer
	closed  atomic.Bool // nothing is sent any more

	background sync.WaitGroup // wheel, flushers, intakes, broker
	cancel     context.CancelFunc
}

// New returns a Manager with these options, nil for the defaults. It copies them and
// does no I/O. It panics if Options.Origins has an entry that is not an origin,
// Options.AllowedHosts one that is not a name, or Options.TrustProxies one that is not an address.
//
// The caller must end it with Shutdown or Close.
func New(o *Options) *Manager {
	m := &Manager{opts: o.resolved()}
	m.endpoint = newEndpoint(m) // panics, before anything has started
	m.log = ratelog.New(m.opts.Logger)
	m.wheel = timerwheel.New(m.background.Go)
	m.evictor = newEvictor(m)
	m.broker = recovery.NewBroker(m.opts.Broker)
	m.fetcher = recovery.NewFetcher(
		m.broker, &m.counters, m.log, m.opts.Limits.QueueMessages/4, m.opts.Limits.QueueBytes/2)
	m.conns, m.users, m.rooms = newLists(m), newUsers(m), newRooms(m)
	m.inboxes = newInboxes(m)
	m.joins, m.announcer, m.publisher = joins{m}, announcer{m}, publisher{m}
	m.broadcast = newBroadcaster(m)
	m.detached = newDetached(m)
	m.commands = newCommands(m)
	m.registry = newRegistry(m)
	m.addresses = admission.NewAddresses(admission.Limits{
		Rate: m.opts.Limits.HandshakeRate, RatePerIP: m.opts.Limits.HandshakeRatePerIP,
		ConnsPerIP: m.opts.Limits.ConnsPerIP,
	})
	m.capacity = admission.NewCapacity(m.opts.Limits.Conns, m.addresses,
		&m.counters.Queues.Budget, &m.registry.work)
	m.sweeper.Fire = m.sweep
	m.open(o == nil || o.Broker == nil)
	return m
}

// open opens the broker, which may take long unless it is in memory.
func (m *Manager) open(inMemory bool) {
	var ctx context.Context
	ctx, m.cancel = context.WithCancel(context.Background())
	if inMemory {
		m.broker.Open(ctx, sink{m})
	} else {
		m.background.Go(func() { m.broker.Open(ctx, sink{m}) })
	}
}

// Register makes a connection of a transport, as ServeHTTP does with a WebSocket: it
// calls OnConnect, announces the connection and begins to read. It blocks only on
// OnConnect, and where there are inboxes for up to ten seconds on the broker. The
// connection's context has the values of ctx, but does not end with it: so ctx must not be the
// context of a request, which routers use again for other requests. Register takes over the
// transport, also when it fails.
//
// It returns ErrClosed after Shutdown or Close or if the connection ended meanwhile,
// ErrTooManyConns, ErrOverloaded, ErrDenied, ErrInvalidName for a user id that breaks the rules,
// ErrUnauthenticated for an identity that has expired, and the error of OnConnect.
func (m *Manager) Register(ctx context.Context, t Transport, id Identity) (*Conn, error) {
	if t.t == nil {
		return nil, errNoTransport
	}
	began := m.revocations.Begin()
	defer m.revocations.End()
	e := candidate{user: id.UserID, began: began}
	err := id.validate()
	if err == nil {
		err = m.registry.reserve(e)
	}
	if err != nil {
		_ = t.t.Wire().Close()
		t.t.Release()
		return nil, err
	}
	return m.registry.register(ctx, t.t, id, e)
}

// watchStale begins to look for stale connections, unless that is off.
func (m *Manager) watchStale() {
	if m.opts.Timeouts.Stale > 0 && m.opts.Timeouts.Sweep > 0 {
		m.wheel.Set(&m.sweeper, m.opts.Timeouts.Sweep)
	}
}

// sweep ends the connections that have been silent for longer than Timeouts.Stale.
func (m *Manager) sweep() {
	for _, c := range m.conns.everyone.snapshot() {
		if !c.session.Ended() && c.session.Silence() > m.opts.Timeouts.Stale {
			c.session.Expel(CauseTimeout, CloseTimeout, "stale")
		}
	}
	m.watchStale()
}

// Join puts a connection into a room. When it returns, the connection gets every
// message that is sent to the room. It reports false if the connection was in the
// room already. It does not block, but for the broker of a room that keeps history.
//
// A client of realtime.v1 learns of it. Our clients, if they have been in that room over another
// connection, then get what they have missed there, as far as the authorizer allows ActionHistory:
// so who joins clients in Options.OnConnect need not know where they were. Without this call a
// client does not come back into such a room, unless it resumes its session.
//
// It returns ErrNotFound if there is no such connection, ErrClosed if it is about to
// end, ErrInvalidName for an invalid room, ErrTooManyRooms, ErrDenied, see [Room.Deny], and the broker's
// error.
func (m *Manager) Join(ctx context.Context, connID, room string) (joined bool, err error) {
	j, err := m.JoinFrom(ctx, connID, room, From{})
	return j.New, err
}

// JoinFrom is Join of a room that keeps history, see Options.History: the connection gets first
// what the room has kept, and then what is sent to it, with nothing missing or twice in between.
// It may wait for the broker, until ctx ends, and not for the client, who gets what was kept as
// fast as he reads it. A member who joins again goes back to where from says, unless it is zero.
//
// It returns what Join returns, and the broker's error.
func (m *Manager) JoinFrom(ctx context.Context, connID, room string, from From) (Joined, error) {
	if err := checkRoom(room); err != nil {
		return Joined{}, err
	}
	c := m.Conn(connID)
	if c == nil {
		return Joined{}, ErrNotFound
	}
	e := &joinOp{room: room, from: from}
	err := m.joins.join(ctx, c, e)
	return e.joined, err
}

// Leave takes a connection out of a room, and reports false if it was not in it. When
// it returns, no message that is sent to the room reaches the connection any more. It
// does not block. It returns ErrInvalidName for an invalid room, and ErrNotFound if there is no such
// connection.
func (m *Manager) Leave(_ context.Context, connID, room string) (left bool, err error) {
	if err := checkRoom(room); err != nil {
		return false, err
	}
	c := m.Conn(connID)
	if c == nil {
		return false, ErrNotFound
	}
	left, _ = m.joins.leave(c, room, nil)
	return left, nil
}

// Send gives a message to the queues of its receivers, and to what is kept. It never waits for a
// peer; with a broker it waits for that to take the message, until ctx ends. Messages that
// one goroutine sends reach each receiver in that order, and all members of a room
// get the room's messages in one order, those to several targets too. While a receiver catches up
// on a room or an inbox, what is sent to it by other targets does not wait: then the order holds
// for each target by itself. With a broker that serves several processes, messages to several
// rooms that keep history have the order of each sender only.
//
// A message with an ID is not sent again to a room that keeps history: Result.Duplicate says so.
// A message to several such rooms is kept in each, under one ID.
//
// It returns ErrInvalidName for a reserved or invalid message type and for a room, user or connection
// whose name cannot exist, ErrInvalidMessage for content
// that is not JSON, ErrTooLarge, also if it is larger than all that a room or an inbox keeps,
// ErrClosed after Close, and the broker's error. If that is known before something is done, as
// ErrFull is, all rooms and up to 256 inboxes have it or none; more inboxes have it in steps of
// 256, and Result.Kept counts those that do. An inbox in which the Sender or Guest has its share is
// left out and counted by Result.Full; if there are only such receivers, that is ErrFull too.
// That nobody was there is not an error: see Result.
func (m *Manager) Send(ctx context.Context, to Target, msg Message) (Result, error) {
	if err := checkMessage(&msg, m.opts.Limits.QueueBytes/2); err != nil {
		return Result{}, err
	}
	if err := checkTarget(&to); err != nil {
		return Result{}, err
	}
	return m.send(ctx, to, msg)
}

// relay is Send of a message that a codec has made and checked.
func (m *Manager) relay(ctx context.Context, to Target, msg Message) (Result, error) {
	if err := checkSize(&msg, m.opts.Limits.QueueBytes/2); err != nil {
		return Result{}, err
	}
	return m.send(ctx, to, msg)
}

func (m *Manager) send(ctx context.Context, to Target, msg Message) (Result, error) {
	if m.closed.Load() {
		return Result{}, ErrClosed
	}
	now := time.Now()
	if msg.Time.IsZero() {
		msg.Time = now
	}
	res, err := m.publisher.publish(ctx, broker.Publication{
		Target: broker.Target(to), Message: broker.Message(msg),
	})
	if err == nil && !res.Duplicate {
		m.counters.Message(now)
	}
	return res, err
}

// sink is a Manager as its broker sees it.
type sink struct{ m *Manager }

// Deliver drops what is not a valid message: a broker is another way in.
func (s sink) Deliver(p broker.Publication) {
	if s.m.closed.Load() {
		return
	}
	if f, ok := p.Origin.(*origin); ok { // it was sent here
		f.result.sum(s.m.broadcast.deliver(&p))
		return
	}
	if err := checkMessage((*Message)(&p.Message), s.m.opts.Limits.QueueBytes/2); err != nil {
		s.m.counters.Add(metrics.Failed, 1)
		s.m.log.Log(context.Background(), slog.LevelWarn, "broker",
			"realtime: the broker delivered what is no message", slog.Any("error", err))
		return
	}
	s.m.broadcast.deliver(&p)
}

// Lost makes everybody who gets the stream live read what may be missing.
func (s sink) Lost(stream string) { s.m.broadcast.lost(stream) }

// Conn returns the connection with this id, or nil if there is none or it has ended.
func (m *Manager) Conn(id string) *Conn { return m.conns.find(id) }

// Stats returns a snapshot.
func (m *Manager) Stats() Stats { return newStats(&m.counters, m.speakers.Deflating()) }

// policyOf returns the policy of a room: the one of the room that exists, or of a new one.
func (m *Manager) policyOf(name string) recovery.Policy {
	if r, ok := m.rooms.index.Get(name); ok {
		return r.policy
	}
	return m.opts.policy(name)
}

// LocalConns returns all connections in this process, as of the call.
func (m *Manager) LocalConns() iter.Seq[*Conn] {
	return slices.Values(m.conns.everyone.snapshot())
}

// Shutdown ends the Manager gently. New connections are refused with 503. Each
// connection is closed with code 1012, after what is queued for it has been written;
// the goodbyes to plain clients are spread over Timeouts.Drain, or half of the time that ctx
// leaves, so that they do not all come back at once. It waits until all
// connections have ended, their handlers have returned and OnDisconnect has been
// called.
//
// If ctx ends first, the connections that are left are cut, and its cause is
// returned. Shutdown may be called again, also while it runs. A handler may call it
// with its own ctx: it is not waited for then.
func (m *Manager) Shutdown(ctx context.Context) error {
	inside := inHandler(ctx, &m.registry.handlers)
	if inside {
		detached, cancel := detach(ctx)
		defer cancel()
		ctx = detached
	}
	m.capacity.Close()
	m.drain(ctx)
	err := m.await(ctx)
	m.closed.Store(true)
	m.stopBackground()
	if tail := m.registry.handlers.Wait(ctx, inside); err == nil {
		err = tail
	}
	return err
}

// Close ends the Manager now: connections have a second to take what is queued for
// them, and are closed with code 1001. It waits for everything that the Manager
// started, but not for code of the application, so handlers may call it. It may be
// called again. It returns nil.
func (m *Manager) Close() error {
	m.capacity.Close()
	m.closed.Store(true)
	for _, c := range m.conns.byID.Values() {
		if !c.session.End(&CloseError{Cause: CauseShutdown, Code: CloseAway}, transport.CloseGrace) {
			// It is about to end, but perhaps it has more time than that.
			c.queue.Close(sendqueue.CloseFrame(uint16(CloseAway), ""), transport.CloseGrace)
		}
	}
	m.registry.work.Wait()
	m.stopBackground()
	return nil
}

func (m *Manager) stopBackground() {
	m.detached.endAll()
	m.wheel.Close()
	m.registry.pool.Queues.Flushers.Close()
	m.endpoint.upgrader.Close()
	m.cancel()
	m.background.Wait()
	m.broker.Close()
}

// drain says goodbye to everybody: at once to clients of realtime.v1, which have been told over how
// much time to spread their return, and one after another to plain ones, which may come back at
// once.
func (m *Manager) drain(ctx context.Context) {
	var plain []*Conn
	for _, c := range m.conns.byID.Values() {
		if c.proto == wire.ProtoV1 {
			m.restart(c)
		} else {
			plain = append(plain, c)
		}
	}
	if len(plain) == 0 {
		return
	}
	start, pause := time.Now(), m.pause(ctx, len(plain))
	pace := time.NewTimer(0)
	defer pace.Stop()
	for i, c := range plain {
		if wait := time.Until(start.Add(time.Duration(i) * pause)); wait > 0 {
			pace.Reset(wait)
			select {
			case <-pace.C:
			case <-ctx.Done():
				pause = 0
			}
		}
		m.restart(c)
	}
}

// restart ends a connection whose client is to come back to the next server.
func (m *Manager) restart(c *Conn) {
	why := &CloseError{Cause: CauseShutdown, Code: CloseRestart, Reason: "restart"}
	c.session.End(why, m.opts.Timeouts.Write)
}

// pause is the time between two goodbyes.
func (m *Manager) pause(ctx context.Context, n int) time.Duration {
	window := min(m.opts.Timeouts.Drain, time.Duration(n)*time.Millisecond)
	if end, ok := ctx.Deadline(); ok {
		window = min(window, time.Until(end)/2)
	}
	return max(0, window/time.Duration(n))
}

// await waits for the connections, and cuts them when ctx ends.
func (m *Manager) await(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		m.registry.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	for _, c := range m.conns.byID.Values() {
		c.queue.Kill()
	}
	<-done
	return context.Cause(ctx)
}

// detach returns ctx with its deadline but without its cancellation: a handler's
// context ends with the connection that Shutdown is about to end.
func detach(ctx context.Context) (context.Context, context.CancelFunc) {
	free := context.WithoutCancel(ctx)
	if end, ok := ctx.Deadline(); ok {
		return context.WithDeadline(free, end)
	}
	return context.WithCancel(free)
}
