package realtime

import (
	"cmp"
	"context"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/admission"
	"github.com/realtime-go/realtime/internal/cluster"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/ratelog"
	"github.com/realtime-go/realtime/internal/recovery"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/state"
	"github.com/realtime-go/realtime/internal/tickets"
	"github.com/realtime-go/realtime/internal/timerwheel"
	"github.com/realtime-go/realtime/internal/transport"
	"github.com/realtime-go/realtime/internal/wire"
)

// Manager is the hub: it has the connections, users and rooms of this process and sends messages to
// them. It is the http.Handler of the WebSocket endpoint, see [Manager.ServeHTTP]. [Manager.API]
// returns the handler of the REST interface. Make a Manager with [New].
//
// All methods are safe for concurrent use, also after Close. No lock is held while code of the
// application, a socket or a broker runs.
type Manager struct {
	opts     Options
	started  time.Time
	counters metrics.Counters
	log      *ratelog.Logger
	wheel    *timerwheel.Wheel
	evictor  *evictor // sets the limits of the budget, before anything is counted

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
	events    *roomEvents
	detached  *detached
	announcer *announcer
	broadcast *broadcaster
	publisher publisher

	node        *cluster.Node
	tickets     tickets.Box[passedIdentity]
	denials     *denials
	spread      *spreader
	speakers    wire.Speakers
	compressor  *wire.Compressor
	stateConfig state.Config

	commands *commands
	registry *registry

	sweeper timerwheel.Timer
	closed  atomic.Bool // Send fails

	background sync.WaitGroup // goroutines of wheel, flushers, intakes and broker
	cancel     context.CancelFunc
}

// New returns a Manager with these options; nil means the defaults. It copies o. It does not block:
// Options.Broker is opened in the background. The caller must end the Manager with Shutdown or
// Close.
//
// New panics if Options.Origins has an entry that is not an origin, Options.AllowedHosts an entry
// that is not a name, or Options.TrustProxies an entry that is not an address.
func New(o *Options) *Manager {
	m := &Manager{opts: o.resolved(), started: time.Now()}
	m.endpoint = newEndpoint(m) // may panic, so before anything is started
	m.log = ratelog.New(m.opts.Logger, time.Second)
	m.wheel = timerwheel.New(m.background.Go)
	m.evictor = newEvictor(m)
	m.broker = recovery.NewBroker(m.opts.Broker)
	m.node, m.spread = m.newNode(), newSpreader(m)
	m.denials = newDenials(m)
	m.fetcher = recovery.NewFetcher(
		m.broker, &m.counters, m.log, m.opts.Limits.QueueMessages/4, m.opts.maxContent())
	m.compressor = wire.NewCompressor(m.opts.CompressFrom, &m.speakers,
		func() { m.counters.Add(metrics.Compressed, 1) })
	m.stateConfig = state.Config{
		Node:       m.nodeName(),
		Compressor: m.compressor,
		Wheel:      m.wheel, Go: m.background.Go, Budget: &m.counters.Queues.Budget, Speakers: &m.speakers,
		QueueMessages: m.opts.Limits.QueueMessages, QueueBytes: m.opts.Limits.QueueBytes,
		Limit:   int64(m.opts.Limits.MemoryBytes) / 4,
		Stopped: func() bool { return m.capacity.Closed() },
		Pushed:  func(frames int) { m.counters.Add(metrics.Matched, frames) },
	}
	m.conns, m.users, m.rooms = newLists(m), newUsers(m), newRooms(m)
	m.inboxes = newInboxes(m)
	m.events = newRoomEvents(m)
	m.joins, m.announcer, m.publisher = joins{m}, newAnnouncer(m), publisher{m}
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

// open opens the broker, in the background unless it is in memory.
func (m *Manager) open(inMemory bool) {
	m.node.Open(nodeEvents{m}, m.opts.Timeouts.Resume)
	if !m.node.Alone() {
		m.opts.Logger.Info("realtime: this process is a node", slog.String("node", m.nodeName()))
	}
	var ctx context.Context
	ctx, m.cancel = context.WithCancel(context.Background())
	if inMemory {
		m.broker.Open(ctx, sink{m})
	} else {
		m.background.Go(func() { m.broker.Open(ctx, sink{m}) })
	}
}

// Register opens a connection over a transport, in the same way as ServeHTTP over a WebSocket: it
// calls OnConnect, sends the notices and begins to handle the client's messages. Register takes
// over the transport, even if it fails.
//
// The context of the connection has the values of ctx, but does not end with ctx. So ctx must not
// be the context of a request: routers reuse those for other requests.
//
// Register waits for OnConnect. If there are inboxes, it also waits for the broker, for at most ten
// seconds.
//
// It returns ErrClosed after Shutdown or Close or if the connection ended in the meantime,
// ErrTooManyConns, ErrOverloaded, ErrDenied, ErrInvalidName for an invalid user id or device,
// ErrUnauthenticated for an identity that has expired, the error of OnConnect, and the error of the
// broker. It returns an error for the zero Transport and for one that was registered before.
func (m *Manager) Register(ctx context.Context, t Transport, id Identity) (*Conn, error) {
	if t.t == nil {
		return nil, errNoTransport
	}
	if t.taken.Swap(true) {
		return nil, errTaken
	}
	began := m.revocations.Begin()
	defer m.revocations.End()
	cand := candidate{user: id.UserID, began: began}
	err := id.validate()
	if err == nil {
		err = m.registry.reserve(cand)
	}
	if err != nil {
		_ = t.t.Wire().Close()
		t.t.Release()
		return nil, err
	}
	return m.registry.register(ctx, t.t, id, cand)
}

// watchStale schedules sweep, unless it is turned off.
func (m *Manager) watchStale() {
	if m.opts.Timeouts.Stale > 0 && m.opts.Timeouts.Sweep > 0 {
		m.wheel.Set(&m.sweeper, m.opts.Timeouts.Sweep)
	}
}

// sweep closes the connections that have been silent for longer than Timeouts.Stale.
func (m *Manager) sweep() {
	for _, c := range m.conns.everyone.snapshot() {
		if !c.session.Ended() && c.session.Silence() > m.opts.Timeouts.Stale {
			c.session.Expel(CauseTimeout, CloseTimeout, "stale")
		}
	}
	m.watchStale()
}

// Join puts a connection into a room. When it returns, the connection receives every message that
// is sent to the room. It reports false if the connection was in the room already.
//
// If the room keeps history, Join may wait for the broker until ctx ends. Otherwise it does not
// block.
//
// A client of realtime.v1 is told that it has joined. If the clients of this project were in the
// room over an earlier connection, they then request the messages that they missed, as far as
// Options.Authorize permits ActionHistory. So an application that joins clients in
// Options.OnConnect need not know their positions. A client that reconnects does not rejoin such a
// room by itself: it is in the room again if the application calls Join, or if the client resumes
// its session.
//
// With a broker that connects several processes, the connection may be in any of them: then Join
// waits for its answer, for a quarter of a second at most, and returns an error that matches
// ErrUnavailable if there is none.
//
// Join returns ErrNotFound if there is no such connection, ErrClosed if the connection has begun to
// end, ErrInvalidName for an invalid room, ErrTooManyRooms, ErrDenied if the user is denied with
// [Room.Deny], and the error of the broker.
func (m *Manager) Join(ctx context.Context, connID, room string) (joined bool, err error) {
	if err := checkRoom(room); err != nil {
		return false, err
	}
	c := m.Conn(connID)
	if c == nil {
		return m.atNode(ctx, askJoinConn, &ask{Conn: connID, Room: room})
	}
	return c.Join(ctx, room)
}

// Leave takes a connection out of a room. Messages that are sent to the room after Leave has
// returned do not reach the connection. It reports false if the connection was not in the room. It
// does not block, unless the connection is in another process, see Join. It returns ErrInvalidName
// for an invalid room, and ErrNotFound if there is no such connection.
func (m *Manager) Leave(ctx context.Context, connID, room string) (left bool, err error) {
	if err := checkRoom(room); err != nil {
		return false, err
	}
	c := m.Conn(connID)
	if c == nil {
		return m.atNode(ctx, askLeaveConn, &ask{Conn: connID, Room: room})
	}
	left, _ = m.joins.leave(c, room, nil)
	return left, nil
}

// Send puts a message into the send queues of its receivers. If a room or an inbox among the
// receivers keeps messages, the message is kept there too. If nobody receives the message, that is
// not an error: see [Result].
//
// Send never waits for a peer. If the message is kept, or if the broker serves several processes,
// Send waits until the broker has taken the message or ctx ends.
//
// Order: messages that one goroutine sends reach each receiver in that order. All members of a room
// receive the messages to the room in one order, including messages to several targets. While a
// receiver lags in a room or an inbox, messages to other targets do not wait for it: then the order
// holds for each target by itself. If the broker serves several processes, messages to several
// rooms that keep history have the order of each sender only.
//
// A message with an ID is sent only once to a room or an inbox that keeps messages: if its sender
// has used the ID before, Result.Duplicate is true. A message to several rooms that keep history is
// kept in each of them, with the same ID.
//
// If an error is known before anything is kept, as for ErrFull, either all rooms and up to 256
// inboxes keep the message, or none. Further inboxes follow in steps of 256, and Result.Kept counts
// the inboxes and rooms that keep the message. Send returns:
//
//   - ErrInvalidName for an invalid or reserved type, an invalid Sender, Guest, ID or Latest, and
//     an invalid name of a room, user or connection
//   - ErrInvalidMessage for content that is not JSON, for a negative TTL, for an Ephemeral
//     message with ID, Latest or TTL, and for a message with Latest that has an ID or a TTL, or
//     whose target is not one room or one connection without exceptions
//   - ErrTooLarge for content larger than half of Limits.QueueBytes, and for a message larger than
//     all that a room or an inbox keeps
//   - ErrFull if the broker is full, or if the Sender or Guest has used up its share of every inbox
//     and there are no other receivers; otherwise Result.Full counts the inboxes left out
//   - ErrClosed after Shutdown or Close
//   - the errors of InboxOptions.Exists and of the broker
func (m *Manager) Send(ctx context.Context, to Target, msg Message) (Result, error) {
	if err := checkMessage(&msg, m.opts.maxContent()); err != nil {
		return Result{}, err
	}
	if err := cmp.Or(checkTarget(&to), checkLatest(&msg, &to)); err != nil {
		return Result{}, err
	}
	now := time.Now()
	if msg.Time.IsZero() {
		msg.Time = now
	}
	return m.send(ctx, &broker.Publication{
		Target: broker.Target(to), Message: broker.Message(msg),
	}, now)
}

// sendNew is Send of a NewMessage.
func (m *Manager) sendNew(ctx context.Context, to Target, typ string, content any) (Result, error) {
	msg, err := NewMessage(typ, content)
	if err != nil {
		return Result{}, err
	}
	return m.Send(ctx, to, msg)
}

// relay is Send for a message and a target that were checked when a client sent them. The time of
// the message is when it arrived.
func (m *Manager) relay(ctx context.Context, pub *broker.Publication) (Result, error) {
	if err := checkSize((*Message)(&pub.Message), m.opts.maxContent()); err != nil {
		return Result{}, err
	}
	return m.send(ctx, pub, pub.Message.Time)
}

func (m *Manager) send(
	ctx context.Context, pub *broker.Publication, now time.Time,
) (Result, error) {
	if m.closed.Load() {
		return Result{}, ErrClosed
	}
	res, err := m.publisher.publish(ctx, pub)
	if err == nil && !res.Duplicate {
		m.counters.Message(now)
	}
	return res, err
}

// Conn returns the connection with this id, or nil if there is none or it has ended.
func (m *Manager) Conn(id string) *Conn { return m.conns.find(id) }

// Stats returns a snapshot of gauges and counters.
func (m *Manager) Stats() Stats {
	s := newStats(&m.counters, m.speakers.Deflating())
	s.RoomEvents = int(m.events.waiting.Load())
	return s
}

// policyOf returns the policy of a room, or the policy that it would have if it does not exist.
func (m *Manager) policyOf(name string) roomPolicy {
	if r, ok := m.rooms.index.Get(name); ok {
		return r.policy
	}
	return m.opts.policy(name)
}

// LocalConns returns the connections of this process at the time of the call.
func (m *Manager) LocalConns() iter.Seq[*Conn] {
	return slices.Values(m.conns.everyone.snapshot())
}

// Shutdown ends the Manager gracefully. New connections are refused with 503. Each connection is
// closed with code 1012 after its send queue has been written, or after Timeouts.Write at the
// latest. The close frames to plain clients are spread over Timeouts.Drain, but at most over half
// of the time that ctx leaves, so that the clients do not all reconnect at once.
//
// Shutdown waits until all connections have ended, their handlers have returned, and OnDisconnect
// and OnRoom have been called. If ctx ends first, the remaining connections are cut, and Shutdown
// returns the cause of ctx. A handler may call Shutdown with its own ctx: then Shutdown does not
// wait for that handler, and ignores that its ctx ends with the connection. Shutdown may be called
// again, also while it runs.
//
// Call Shutdown before the Shutdown of the http.Server, which does not know about open WebSockets.
// Shutdown and Close also close the broker.
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
	if late := m.registry.handlers.Wait(ctx, inside); err == nil {
		err = late
	}
	return err
}

// Close ends the Manager at once. Connections have one second to take what is in their send queues,
// and are closed with code 1001. Close waits for everything that the Manager has started, but not
// for code of the application, so that handlers may call it. It may be called again. It returns
// nil.
func (m *Manager) Close() error {
	m.capacity.Close()
	m.closed.Store(true)
	for _, c := range m.conns.byID.Values() {
		if !c.session.End(&CloseError{Cause: CauseShutdown, Code: CloseAway}, transport.CloseGrace) {
			// It has begun to end, perhaps with more time.
			c.queue.Close(sendqueue.CloseFrame(uint16(CloseAway), ""), transport.CloseGrace)
		}
	}
	m.registry.work.Wait()
	m.stopBackground()
	return nil
}

func (m *Manager) stopBackground() {
	m.detached.endAll()
	m.node.Close()
	m.spread.close()
	m.wheel.Close()
	m.registry.pool.Queues.Flushers.Close()
	m.endpoint.upgrader.Close()
	m.cancel()
	m.background.Wait()
	m.broker.Close()
}

// drain sends the close frames. Clients of realtime.v1 get theirs at once, because the welcome has
// told them over how much time to spread their reconnects. Plain clients may reconnect at once, so
// they get theirs one after another.
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
	start, interval := time.Now(), m.drainInterval(ctx, len(plain))
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i, c := range plain {
		if wait := time.Until(start.Add(time.Duration(i) * interval)); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
				interval = 0
			}
		}
		m.restart(c)
	}
}

// restart closes a connection whose client should reconnect to the next server.
func (m *Manager) restart(c *Conn) {
	why := &CloseError{Cause: CauseShutdown, Code: CloseRestart, Reason: "restart"}
	c.session.End(why, m.opts.Timeouts.Write)
}

// drainInterval returns the time between the close frames of two of n plain clients.
func (m *Manager) drainInterval(ctx context.Context, n int) time.Duration {
	window := min(m.opts.Timeouts.Drain, time.Duration(n)*time.Millisecond)
	if end, ok := ctx.Deadline(); ok {
		window = min(window, time.Until(end)/2)
	}
	return max(0, window/time.Duration(n))
}

// await waits until all connections have ended, and cuts them when ctx ends.
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

// detach returns ctx with its deadline but without its cancellation. The context of a handler ends
// with the connection, which Shutdown itself ends.
func detach(ctx context.Context) (context.Context, context.CancelFunc) {
	free := context.WithoutCancel(ctx)
	if end, ok := ctx.Deadline(); ok {
		return context.WithDeadline(free, end)
	}
	return context.WithCancel(free)
}
