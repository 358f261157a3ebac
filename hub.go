package realtime

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/realtime-go/realtime/internal/engine"
	"github.com/realtime-go/realtime/internal/inbound"
)

// Manager is the hub: it knows the connections, users and rooms of this process and
// sends messages to them. It is the http.Handler of the WebSocket endpoint, see
// [Manager.ServeHTTP], and makes that of the REST interface, see [Manager.API].
// All methods are safe for concurrent use, also after Close. No lock is held while
// code of the application, a socket or a broker runs.
type Manager struct {
	opts     Options
	tally    tally
	notes    notes
	index    *index
	dispatch dispatcher
	proxies  proxies
	hosts    hosts
	origins  *origins
	sockets  sockets
	carrier  *carrier // nil without a broker

	links   engine.Config
	wheel   *engine.Wheel
	sweeper engine.Timer
	relief  relief

	readers    readers
	heartbeats heartbeats
	expiries   expiries

	gate      gate
	firstConn sync.Once   // begins the sweep
	closed    atomic.Bool // nothing is sent any more

	work       sync.WaitGroup // of connections: links and clean-up
	tails      tails          // of connections: handlers that outlive them
	background sync.WaitGroup // of the Manager: wheel, observer, broker
	rest       context.CancelFunc
}

// New returns a Manager with these options, nil for the defaults. It copies them and
// does no I/O. It panics if Options.Origins has an entry that is not an origin, or
// Options.TrustProxies one that is not an address.
// The caller must end it with Shutdown or Close.
func New(o *Options) *Manager {
	m := &Manager{opts: o.resolved()} // in place: its parts point at each other
	m.notes.log = m.opts.Logger
	m.index = newIndex(&m.opts, &m.tally)
	m.wheel = engine.NewWheel(m.background.Go)
	m.buildDoor()
	m.buildSockets()
	m.buildDispatch()
	m.buildTimers()
	m.startBackground()
	return m
}

// buildDoor makes what decides who comes in.
func (m *Manager) buildDoor() {
	m.gate = gate{
		limit: m.opts.MaxConns, users: &m.index.users, visitors: newVisitors(&m.opts),
		denials: &m.index.denials, work: &m.work, budget: &m.tally.frames.Budget,
	}
	m.proxies = newProxies(m.opts.TrustProxies)
	m.hosts = newHosts(m.opts.AllowedHosts, &m.proxies)
	m.origins = newOrigins(m.opts.Origins, m.opts.InsecureAnyOrigin, m.opts.RequireOrigin, &m.proxies)
}

// buildSockets makes what reads and writes.
func (m *Manager) buildSockets() {
	m.sockets.intakes = inbound.NewIntakes(m.background.Go)
	m.sockets.buffers.New = func() any { return new([]byte) }
	m.sockets.compress = m.opts.CompressFrom > 0
	m.links = engine.Config{
		MaxMessages:  m.opts.QueueMessages,
		MaxBytes:     m.opts.QueueBytes,
		WriteTimeout: m.opts.WriteTimeout,
		Go:           m.work.Go,
		Totals:       &m.tally.frames,
		Flushers:     engine.NewFlushers(m.background.Go),
	}
}

// buildDispatch makes what does what clients ask for.
func (m *Manager) buildDispatch() {
	m.dispatch = dispatcher{
		authorize: m.opts.Authorize, onMessage: m.opts.OnMessage, relay: m.relay,
		tally: &m.tally, notes: &m.notes,
	}
	requests := requester{
		dispatcher: &m.dispatch, rooms: m.index, denials: &m.index.denials, renew: m.expiries.renew,
		onCall: m.opts.OnCall, maxBytes: m.opts.QueueBytes / 2,
	}
	m.dispatch.request = requests.serve
	m.readers = readers{
		tally: &m.tally, wheel: m.wheel, run: m.dispatch.run, limits: newLimits(&m.opts),
	}
}

// buildTimers makes what looks after connections from time to time.
func (m *Manager) buildTimers() {
	m.sweeper.Fire = m.sweep
	m.heartbeats = heartbeats{
		wheel: m.wheel, ping: engine.NewFrame(engine.OpPing, nil),
		interval: m.opts.PingInterval, timeout: m.opts.PongTimeout,
	}
	m.expiries = expiries{
		wheel: m.wheel, grace: m.opts.ExpiryGrace, revalidate: m.opts.Revalidate,
		notes: &m.notes, tally: &m.tally,
	}
	m.tally.frames.Budget.Limit = int64(m.opts.MemoryBudget)
	m.relief = relief{
		budget: &m.tally.frames.Budget, wheel: m.wheel, conns: m.index.conns,
	}
	m.relief.begin()
}

// startBackground starts what the Manager runs for its whole life, if anything.
func (m *Manager) startBackground() {
	var ctx context.Context
	ctx, m.rest = context.WithCancel(context.Background())
	if m.opts.Observer != nil {
		m.background.Go(func() { observe(ctx, m.opts.Observer, &m.tally) })
	}
	if m.opts.Broker != nil {
		m.carrier = newCarrier(m.opts.Broker)
		m.background.Go(func() { m.carrier.run(ctx, sink{m}) })
	}
}

// Register makes a connection of a transport, as ServeHTTP does with a WebSocket: it
// calls OnConnect, announces the connection and begins to read. It blocks only on
// OnConnect. The connection's context has the values of ctx, but does not end with
// it. Register takes over the transport, also when it fails.
//
// It returns ErrClosed after Shutdown or Close or if the connection ended meanwhile,
// ErrTooManyConns, ErrOverloaded, ErrDenied, ErrName for a user id that breaks the rules,
// ErrUnauthenticated for an identity that has expired, and the error of OnConnect.
func (m *Manager) Register(ctx context.Context, t Transport, id Identity) (*Conn, error) {
	began := m.index.denials.begin()
	defer m.index.denials.end()
	e := entrant{user: id.UserID, began: began}
	err := id.validate()
	if err == nil {
		err = m.gate.enter(e)
	}
	if err != nil {
		_ = t.wire().Close()
		t.release()
		return nil, err
	}
	return m.register(ctx, t, id, e)
}

// register opens a connection that the gate has let in.
func (m *Manager) register(ctx context.Context, t Transport, id Identity, e entrant) (*Conn, error) {
	m.firstConn.Do(m.watchStale)
	s := m.newSession(ctx, t, id, e)
	c := &s.conn
	m.greet(c)
	m.index.conns.getOrPut(c.id, func() *Conn { return c })
	if m.gate.isShut() { // Close may have looked before c could be found
		c.finish(&CloseError{Cause: CauseShutdown, Code: CloseRestart}, closeGrace)
	}
	if err := m.admit(s); err != nil {
		return nil, err
	}
	// Now that what comes in is handled at once: whoever is answered may say one thing and
	// leave, and what is read ahead is dropped then.
	c.link.Uncork()
	s.heart.start()
	s.renewed()
	return c, nil
}

// admit asks OnConnect and takes a connection into the lists. What comes in meanwhile waits.
func (m *Manager) admit(s *session) error {
	s.reader.hold()
	defer s.reader.open()
	s.reader.start() // also of one that has ended: to see the peer's goodbye
	err := m.connect(s)
	switch {
	case m.index.enter(&s.conn):
		return nil
	case err != nil:
		return err
	default:
		return s.conn.end.Load() // the context may not have ended yet
	}
}

// greet says welcome.
func (m *Manager) greet(c *Conn) {
	hello := frames{m: welcome(c.proto, greeting{
		conn: c.id, user: c.UserID(), maxMessage: m.opts.MaxMessageBytes, comeBack: m.comeBack(),
	})}
	m.tally.add(cMatched, 1)
	c.push(&hello, engine.Reply, engine.DropNewest) // of a class that is never dropped
	hello.settle(&m.tally)
}

// comeBack is how long it takes to let in as many connections as there have been: if all are
// lost at once, they should not come back sooner.
func (m *Manager) comeBack() time.Duration {
	return m.gate.visitors.span(int(m.tally.peak.Load()))
}

// session is a connection with those who look after it, in one piece of memory.
type session struct {
	m         *Manager
	conn      Conn
	reader    reader
	heart     heartbeat
	expiry    atomic.Pointer[expiry] // nil until the identity has a time of expiry
	connected atomic.Bool            // OnConnect returned nil
}

func (m *Manager) newSession(ctx context.Context, t Transport, id Identity, e entrant) *session {
	s := &session{m: m}
	c := &s.conn
	c.id, c.identity, c.opened, c.transport = "conn_"+uuid.NewString(), id, time.Now(), t
	c.place, c.began = e.place, e.began
	if c.deflates = t.deflates(); c.deflates {
		m.tally.deflating.Add(1)
	}
	c.proto = t.protocol()
	m.index.languages[c.proto].Add(1)
	values := context.WithValue(context.WithoutCancel(ctx), connKey{&m.tails}, c)
	c.ctx, c.cancel = context.WithCancelCause(values)
	c.duties = s
	c.alive()
	s.reader.init(&m.readers, c)
	s.heart = heartbeat{heartbeats: &m.heartbeats, c: c}
	c.link = engine.NewLink(&m.links, t.wire(), s.failed)
	t.attach(c.link, &s.reader, m.opts.MaxMessageBytes)
	return s
}

// ended, yield, busy, renewed, run, ask and failed are what the connection and its link ask of
// those above.
func (s *session) ended(why *CloseError) { go s.m.farewell(s, why) }
func (s *session) yield()                { s.reader.yield() }
func (s *session) busy() bool            { return s.reader.handling() }
func (s *session) failed(err error)      { s.conn.finish(linkError(err), closeGrace) }

func (s *session) renewed() {
	if e := s.m.expiries.of(&s.conn, &s.expiry); e != nil {
		e.watch()
	}
}

func (s *session) run(f func()) {
	s.m.tails.run(func() {
		s.reader.enter()
		defer s.reader.exit()
		f()
	})
}

func (s *session) ask(frame *engine.Frame) {
	f := uniform(frame)
	s.m.tally.add(cMatched, 1)
	s.conn.push(f, engine.Message, engine.Disconnect)
	f.settle(&s.m.tally)
}

// linkError is how a connection ends whose link gave up.
func linkError(err error) *CloseError {
	switch {
	case errors.Is(err, engine.ErrOverflow):
		return &CloseError{Cause: CauseSlow, Code: CloseSlow, Reason: "reads too slowly", Err: err}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &CloseError{Cause: CauseTimeout, Code: CloseTimeout, Err: err}
	default:
		return &CloseError{Cause: CauseLost, Code: CloseLost, Err: err}
	}
}

// connect asks OnConnect, and ends the connection if it says no.
func (m *Manager) connect(s *session) error {
	if m.opts.OnConnect == nil {
		s.connected.Store(true)
		return nil
	}
	c, returned := &s.conn, false
	defer func() {
		if !returned { // runtime.Goexit; guard has ended the connection
			m.index.enter(c) // gives its user's place back
		}
	}()
	err := guard(&m.notes, &m.tally, c, func() error { return m.opts.OnConnect(c.ctx, c) })
	returned = true
	if err == nil {
		s.connected.Store(true)
		return nil
	}
	why := &CloseError{Cause: CauseRefused, Code: CloseRefused, Reason: "refused", Err: err}
	if ce, ok := errors.AsType[*CloseError](err); ok && ce.Code.sendable() {
		why.Code, why.Reason = ce.Code, ce.Reason
	}
	s.conn.finish(why, closeGrace)
	return err
}

// farewell cleans up after a connection that has ended. The announcements come
// first; they wait for nothing.
func (m *Manager) farewell(s *session, why *CloseError) {
	defer m.gate.leave(s.conn.place)
	s.heart.stop()
	if e := s.expiry.Load(); e != nil {
		e.stop()
	}
	m.tally.add(ended(why.Cause), 1)
	m.index.depart(&s.conn)
	<-s.conn.link.Done()
	s.reader.close()
	s.conn.transport.release()
	m.index.conns.drop(s.conn.id, &s.conn)
	m.index.languages[s.conn.proto].Add(-1)
	if s.conn.deflates {
		m.tally.deflating.Add(-1)
	}
	m.logEnd(&s.conn, why)
	m.tails.run(func() {
		s.reader.wait()
		if m.opts.OnDisconnect != nil && s.connected.Load() {
			m.disconnect(s, why)
		}
	})
}

// disconnect tells OnDisconnect.
func (m *Manager) disconnect(s *session, why *CloseError) {
	s.reader.enter()
	defer s.reader.exit()
	_ = guard(&m.notes, &m.tally, &s.conn, func() error {
		m.opts.OnDisconnect(context.WithoutCancel(s.conn.ctx), &s.conn, why)
		return nil
	})
}

// logEnd writes the line that a connection gets when it ends, the first of a second from the
// same address and by the same cause.
func (m *Manager) logEnd(c *Conn, why *CloseError) {
	level := slog.LevelDebug
	switch why.Cause {
	case CauseTimeout, CauseSlow, CauseProtocol, CauseRate, CauseRefused, CauseExpired:
		level = slog.LevelInfo
	}
	if !m.opts.Logger.Enabled(c.ctx, level) {
		return
	}
	info := c.Info()
	m.notes.write(c.ctx, level, c.source()+" "+why.Cause.String(), "realtime: connection ended",
		slog.String("conn", c.id), slog.String("user", c.UserID()),
		slog.String("remote", info.RemoteAddr), slog.String("cause", why.Cause.String()),
		slog.Int("code", int(why.Code)), slog.String("reason", cut(why.Reason)),
		slog.Duration("lasted", time.Since(c.opened)),
		slog.Uint64("received", info.Received), slog.Uint64("sent", info.Sent),
		slog.Uint64("dropped", info.Dropped))
}

// watchStale begins to look for stale connections, unless that is off.
func (m *Manager) watchStale() {
	if m.opts.StaleAfter > 0 && m.opts.SweepInterval > 0 {
		m.wheel.Set(&m.sweeper, m.opts.SweepInterval)
	}
}

func (m *Manager) sweep() {
	sweep(&m.index.everyone, m.opts.StaleAfter)
	m.watchStale()
}

// Join puts a connection into a room. When it returns, the connection gets every
// message that is sent to the room. It reports false if the connection was in the
// room already. It does not block.
//
// It returns ErrNotFound if there is no such connection, ErrClosed if it is about to
// end, ErrName for an invalid room, ErrTooManyRooms, and ErrDenied, see [Room.Deny]. ctx is
// for brokers to come.
func (m *Manager) Join(_ context.Context, connID, room string) (joined bool, err error) {
	c := m.Conn(connID)
	if c == nil {
		return false, ErrNotFound
	}
	return m.index.join(c, room, 0)
}

// Leave takes a connection out of a room, and reports false if it was not in it. When
// it returns, no message that is sent to the room reaches the connection any more. It
// does not block. It returns ErrNotFound if there is no such connection.
func (m *Manager) Leave(_ context.Context, connID, room string) (left bool, err error) {
	c := m.Conn(connID)
	if c == nil {
		return false, ErrNotFound
	}
	return m.index.part(c, room, false), nil
}

// Send gives a message to the queues of its receivers. It never waits for a peer;
// with a broker it waits for that to take the message, until ctx ends. Messages that
// one goroutine sends reach each receiver in that order, and all members of a room
// get the room's messages in one order.
//
// It returns ErrName for a reserved or invalid message type, ErrMessage for content
// that is not JSON, ErrTooLarge, ErrClosed after Close, and the broker's error. That
// nobody was there is not an error: see Result.
func (m *Manager) Send(ctx context.Context, to Target, msg Message) (Result, error) {
	if err := msg.check(m.opts.QueueBytes / 2); err != nil {
		return Result{}, err
	}
	return m.send(ctx, to, msg)
}

// relay is Send of a message that a codec has made and checked.
func (m *Manager) relay(ctx context.Context, to Target, msg Message) (Result, error) {
	if err := msg.checkSize(m.opts.QueueBytes / 2); err != nil {
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
	p := Publication{Target: to, Message: msg}
	if m.carrier != nil {
		if err := m.carrier.publish(ctx, p); err != nil {
			return Result{}, err
		}
		m.tally.message(now)
		return Result{}, nil
	}
	m.tally.message(now)
	return m.index.deliver(&p), nil
}

// sink is a Manager as its broker sees it.
type sink struct{ m *Manager }

// Deliver drops what is not a valid message: a broker is another way in.
func (s sink) Deliver(p Publication) {
	if s.m.closed.Load() || p.Message.check(s.m.opts.QueueBytes/2) != nil {
		return
	}
	s.m.index.deliver(&p)
}

// Conn returns the connection with this id, or nil if there is none or it has ended.
func (m *Manager) Conn(id string) *Conn { return m.index.conn(id) }

// Stats returns a snapshot.
func (m *Manager) Stats() Stats { return m.tally.snapshot() }
