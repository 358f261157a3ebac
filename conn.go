package realtime

import (
	"context"
	"crypto/rand"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/admission"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/recovery"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/transport"
	"github.com/realtime-go/realtime/internal/wire"
)

// Conn is one connection: the session of one device or tab, with its identity, its
// rooms and its counters. It holds one [Transport] for as long as it lasts.
// All methods are safe for concurrent use, also after the connection has ended.
type Conn struct {
	id       string
	identity Identity
	receiver
	place  netip.Addr
	began  admission.Decision // to let it in
	opened time.Time
	ctx    context.Context
	cancel context.CancelCauseFunc

	transport transport.Transport
	duties    duties
	end       atomic.Pointer[CloseError]

	seen     atomic.Int64 // when the last frame came in, as a c.now()
	reading  atomic.Int64 // since when it is being read, as a c.now(); 0 while it is not
	received atomic.Uint64
	bill     bill
	was      atomic.Pointer[[]string] // ids of connections whose place it has, or they had; may be nil
	pings    pings
	calls    calls
	lagging  recovery.Lagging
	inbox    *recovery.Subscription // nil if it has none
	over     atomic.Int64           // when it ended, as a c.now(); 0 before
	held     atomic.Int64           // bytes of the message that is being read
	ahead    atomic.Int64           // bytes of those that wait for a handler
	sent     atomic.Uint64          // bytes from the peer

	mu       sync.Mutex
	phase    phase
	expires  time.Time              // when the identity does, by a clock that does not step
	in       int                    // rooms that it is in
	rooms    map[string]*membership // the same by name; nil while they are few
	newest   *membership            // of the rooms, the one joined last
	restRoom string                 // the room that the REST handler put it into, or empty
	parted   bool                   // from a room that it was in
	away     int64                  // bytes that it takes while it is absent
	guest    string                 // what tells it from other anonymous ones; empty until it sends

	seat seat // its place among all connections
}

// duties are what a connection needs of those above it.
type duties interface {
	ended(*CloseError)    // begins the clean-up; called once, does not block
	yield()               // gives the right to read away while a handler runs
	busy() bool           // whether code of the application runs for it
	renewed()             // the identity has another time of expiry
	run(f func())         // runs code of the application in a goroutine of its own
	ask(*sendqueue.Frame) // gives the peer a message that it must not miss
	limit() int           // of such a message, in bytes
}

// connKey is the key of the connection in its context. home is the Manager's tails.
type connKey struct{ home *tails }

// inHandler reports whether ctx is that of a connection of this home for which code of
// the application runs right now.
func inHandler(ctx context.Context, home *tails) bool {
	c, ok := ctx.Value(connKey{home}).(*Conn)
	return ok && c.duties.busy()
}

type phase uint8

const (
	registering phase = iota // found by its id only
	live
	absent // lost, and kept in the rosters for a time
	gone
)

// seat is where a connection is in the lists.
type seat struct {
	segment uint8
	index   int // in the segment, guarded by it
	device  int // in the user's connections, guarded by the user
}

// membership is a connection's place in a room.
type membership struct {
	conn *Conn
	room string

	older, newer *membership // in order of joining; guarded by conn.mu

	asked bool // the client asked for it; guarded by conn.mu

	sub    *recovery.Subscription // nil in a room that keeps no history
	slot   int                    // index among the room's members; guarded by the room
	shown  bool                   // in the room's roster, and announced; guarded by the room
	absent bool                   // no member, and in the roster if shown; guarded by the room
}

// ID returns the connection's id, "conn_" and a random UUID. It is not a secret to
// the peer, and no credential.
func (c *Conn) ID() string { return c.id }

// UserID returns the user's id, empty for an anonymous connection.
func (c *Conn) UserID() string { return c.identity.UserID }

// Identity returns what Authenticate returned, or what the connection was renewed with
// since, see [Conn.Renew].
func (c *Conn) Identity() Identity {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.identity
}

// Renew replaces the connection's identity by a newer one of the same user, with another
// time of expiry or other data. Options.Revalidate does the same. It does not block, and
// what the new identity no longer allows goes on: leave rooms that it is about.
//
// It returns ErrForbidden for another user, ErrUnauthenticated for an identity that has
// expired, and ErrClosed if the connection has ended.
func (c *Conn) Renew(id Identity) error {
	switch {
	case id.UserID != c.UserID():
		return ErrForbidden
	case id.expired(time.Now()):
		return ErrUnauthenticated
	case c.ended():
		return ErrClosed
	}
	c.mu.Lock()
	// Not the user's id, which is read without the lock.
	c.identity.Data, c.identity.ExpiresAt = id.Data, id.ExpiresAt
	c.expires = id.deadline(time.Now())
	c.mu.Unlock()
	c.duties.renewed()
	return nil
}

// deadline is when the identity expires, zero for never.
func (c *Conn) deadline() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.expires
}

// Context returns the context of the connection. It ends with the connection; its cause is a
// *CloseError then. Its values are those that Options.ConnContext chose, or those of the
// context that was given to Register.
func (c *Conn) Context() context.Context { return c.ctx }

// sender is whose ids those of its messages are.
func (c *Conn) sender() broker.Sender {
	if user := c.UserID(); user != "" {
		return broker.Sender{User: user}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.guest == "" {
		c.guest = rand.Text()[:16] // 80 bits
	}
	return broker.Sender{Guest: c.guest}
}

// maxWas bounds how many ids of connections before it a connection is known by.
const maxWas = 16

// follow notes that the connection has the place of another one.
func (c *Conn) follow(old *Conn) {
	ids := []string{old.id}
	if before := old.was.Load(); before != nil {
		ids = append(ids, (*before)[:min(len(*before), maxWas-1)]...)
	}
	c.was.Store(&ids)
}

// named reports whether the connection, or one whose place it has, is among the ids.
func (c *Conn) named(ids []string) bool {
	if len(ids) == 0 {
		return false
	}
	if slices.Contains(ids, c.id) {
		return true
	}
	before := c.was.Load()
	return before != nil &&
		slices.ContainsFunc(*before, func(id string) bool { return slices.Contains(ids, id) })
}

// excluded reports whether a target excludes the connection or its user.
func (c *Conn) excluded(t *broker.Target) bool {
	return c.named(t.ExceptConns) || c.UserID() != "" && slices.Contains(t.ExceptUsers, c.UserID())
}

// charge counts bytes that the client has asked for.
func (c *Conn) charge(bytes int) { c.bill.bytes.Add(int64(bytes)) }

// source is where the connection comes from as far as the log goes: its address, or itself.
func (c *Conn) source() string {
	if c.place.IsValid() {
		return c.place.String()
	}
	return c.id
}

// Rooms returns the rooms that the connection is in, in order of joining.
func (c *Conn) Rooms() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := make([]string, c.in)
	for m, i := c.newest, len(names); m != nil; m = m.older {
		i--
		names[i] = m.room
	}
	return names
}

// Info says how a connection is doing.
type Info struct {
	RemoteAddr  string
	ConnectedAt time.Time
	LastSeen    time.Time // when the last frame came in, of whatever kind
	Received    uint64    // messages from the peer
	Sent        uint64    // messages to the peer that were written to its socket
	Queued      int       // messages that wait to be written
	QueuedBytes int
	Dropped     uint64 // messages that found the queue full
}

// Info returns a snapshot.
func (c *Conn) Info() Info {
	n := c.link.Counts()
	return Info{
		RemoteAddr:  c.transport.RemoteAddr(),
		ConnectedAt: c.opened,
		LastSeen:    c.opened.Add(time.Duration(c.seen.Load())),
		Received:    c.received.Load(),
		Sent:        n.Written,
		Queued:      n.Queued,
		QueuedBytes: n.QueuedBytes,
		Dropped:     n.Dropped,
	}
}

// Close ends the connection: what is queued goes out, then a close frame, and after
// at most a second the socket is closed. It does not wait. The reason is cut to 123
// bytes. A code may be 1000, 1001, 1008, 1011 to 1013 or 3000 to 4999.
//
// It returns ErrCloseCode for any other code, and ErrClosed if the connection has
// ended already.
func (c *Conn) Close(code CloseCode, reason string) error {
	if !code.Sendable() {
		return ErrCloseCode
	}
	if !c.finish(&CloseError{Cause: CauseServer, Code: code, Reason: reason}, transport.CloseGrace) {
		return ErrClosed
	}
	return nil
}

// opening reports whether nothing is written to the peer yet.
func (c *Conn) opening() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase == registering
}

// finish ends the connection, unless it has ended. It does not wait, may be called
// with locks held, and leaves the clean-up to another goroutine.
func (c *Conn) finish(e *CloseError, within time.Duration) bool {
	e.Reason = sendqueue.CutReason(e.Reason)
	if !c.end.CompareAndSwap(nil, e) {
		return false
	}
	c.over.Store(int64(c.now()))
	frame := func() *sendqueue.Frame { return sendqueue.CloseFrame(uint16(e.Code), e.Reason) }
	switch e.Cause {
	case CauseLost:
		c.link.Kill()
	case CauseClient, CauseServer, CauseShutdown:
		c.link.Close(frame(), within)
	default:
		c.link.Abort(frame(), within)
	}
	c.cancel(e)
	c.duties.yield() // somebody has to read the peer's goodbye
	c.duties.ended(e)
	return true
}

// expel ends the connection because of what its peer did or did not do.
func (c *Conn) expel(cause Cause, code CloseCode, reason string) {
	c.finish(&CloseError{Cause: cause, Code: code, Reason: reason}, transport.CloseGrace)
}

func (c *Conn) ended() bool { return c.end.Load() != nil }

// absent reports whether the connection was lost and may come back.
func (c *Conn) absent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase == absent
}

// now returns the time since the connection opened. It is never zero.
func (c *Conn) now() time.Duration { return max(1, time.Since(c.opened)) }

func (c *Conn) alive() { c.seen.Store(int64(c.now())) }

// lively returns when there was a sign of life last, as a c.now(): a frame came in, or the peer
// took something that it had been too slow for.
func (c *Conn) lively() time.Duration {
	return max(time.Duration(c.seen.Load()), c.link.Flowed().Sub(c.opened))
}

// silence returns for how long there could have been a sign of life and was none. It is
// zero while the connection is not read.
func (c *Conn) silence(since time.Duration) time.Duration {
	reading := time.Duration(c.reading.Load())
	if reading == 0 {
		return 0
	}
	return c.now() - max(c.lively(), reading, since)
}

// answer gives a connection what is for it alone: the answer to what it sent. It is never
// dropped.
func answer(c *Conn, t *metrics.Counters, frame *sendqueue.Frame) {
	give(c, t, wire.Uniform(frame), sendqueue.Reply)
}

// tell gives a connection what it must not miss and has not asked for.
func tell(c *Conn, t *metrics.Counters, frame *sendqueue.Frame) {
	give(c, t, wire.Uniform(frame), sendqueue.Vital)
}

// give gives something to one connection.
func give(c *Conn, t *metrics.Counters, f *wire.Frames, class sendqueue.Priority) {
	t.Add(metrics.Matched, 1) // first: Close does not wait for whoever runs this
	c.push(f, class, sendqueue.Disconnect)
	f.Settle(&t.Queues.Budget)
}

// fewRooms is up to how many rooms a walk is as quick as a map, which takes more memory than
// most connections' rooms do.
const fewRooms = 16

// membership returns the connection's place in a room, or nil. c.mu is held.
func (c *Conn) membership(room string) *membership {
	if c.rooms != nil {
		return c.rooms[room]
	}
	m := c.newest
	for m != nil && m.room != room {
		m = m.older
	}
	return m
}

func (c *Conn) isIn(room string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.membership(room) != nil
}

// joined records a membership. c.mu is held.
func (c *Conn) joined(m *membership) {
	if m.older = c.newest; m.older != nil {
		m.older.newer = m
	}
	c.newest = m
	if c.in++; c.in <= fewRooms {
		return
	}
	if c.rooms != nil {
		c.rooms[m.room] = m
		return
	}
	c.rooms = make(map[string]*membership)
	for m := c.newest; m != nil; m = m.older {
		c.rooms[m.room] = m
	}
}

// left forgets a membership. c.mu is held.
func (c *Conn) left(m *membership) {
	c.parted = true
	c.in--
	delete(c.rooms, m.room)
	if m.older != nil {
		m.older.newer = m.newer
	}
	if m.newer != nil {
		m.newer.older = m.older
	} else {
		c.newest = m.older
	}
	if c.restRoom == m.room {
		c.restRoom = ""
	}
}

// askedFor returns the rooms that the client has asked for.
func (c *Conn) askedFor() (rooms []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for m := c.newest; m != nil; m = m.older {
		if m.asked {
			rooms = append(rooms, m.room)
		}
	}
	return rooms
}

// currentRoom is what a plain client means by its room.
func (c *Conn) currentRoom() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.newest == nil {
		return DefaultRoom
	}
	return c.newest.room
}
