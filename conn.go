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
	"github.com/realtime-go/realtime/internal/session"
	"github.com/realtime-go/realtime/internal/transport"
	"github.com/realtime-go/realtime/internal/wire"
)

// Conn is one connection: the session of one device or tab, with its identity and its rooms.
// All methods are safe for concurrent use, also after the connection has ended.
type Conn struct {
	m       *Manager
	id      string
	session session.Session
	receiver
	address   netip.Addr         // see admission.AddrKey
	began     admission.Decision // to let it in
	connected atomic.Bool        // OnConnect returned nil
	expiry    atomic.Pointer[expiry]
	former    atomic.Pointer[[]string] // ids of the connections whose place it has; may be nil

	lagging recovery.Lagging
	inbox   *recovery.Subscription // nil if it has none

	mu       sync.Mutex
	phase    phase
	identity Identity  // the user's id is read without mu
	expires  time.Time // when the identity does, by a clock that does not step
	guest    string    // tells it from other anonymous ones; empty until it sends
	rooms    memberships
	away     int64 // bytes that it takes while it is absent

	seat seat // its place among all connections
}

// connKey is the key of the connection in its context. home is the Manager's tails.
type connKey struct{ home *tails }

// inHandler reports whether ctx is that of a connection of this home for which code of
// the application runs right now.
func inHandler(ctx context.Context, home *tails) bool {
	c, ok := ctx.Value(connKey{home}).(*Conn)
	return ok && c.session.InHandler()
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
	case c.session.Ended():
		return ErrClosed
	}
	c.mu.Lock()
	// Not the user's id, which is read without the lock.
	c.identity.Data, c.identity.ExpiresAt = id.Data, id.ExpiresAt
	c.expires = id.deadline(time.Now())
	c.mu.Unlock()
	c.watchExpiry()
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
func (c *Conn) Context() context.Context { return c.session.Context() }

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

// maxFormer bounds how many ids of connections before it a connection is known by.
const maxFormer = 16

// follow notes that the connection has the place of another one.
func (c *Conn) follow(old *Conn) {
	ids := []string{old.id}
	if before := old.former.Load(); before != nil {
		ids = append(ids, (*before)[:min(len(*before), maxFormer-1)]...)
	}
	c.former.Store(&ids)
}

// named reports whether the connection, or one whose place it has, is among the ids.
func (c *Conn) named(ids []string) bool {
	if len(ids) == 0 {
		return false
	}
	if slices.Contains(ids, c.id) {
		return true
	}
	before := c.former.Load()
	return before != nil &&
		slices.ContainsFunc(*before, func(id string) bool { return slices.Contains(ids, id) })
}

// excluded reports whether a target excludes the connection or its user.
func (c *Conn) excluded(t *broker.Target) bool {
	return c.named(t.ExceptConns) || c.UserID() != "" && slices.Contains(t.ExceptUsers, c.UserID())
}

// source is where the connection comes from as far as the log goes: its address, or itself.
func (c *Conn) source() string {
	if c.address.IsValid() {
		return c.address.String()
	}
	return c.id
}

// Rooms returns the rooms that the connection is in, in order of joining.
func (c *Conn) Rooms() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rooms.names()
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
		RemoteAddr:  c.session.RemoteAddr(),
		ConnectedAt: c.session.Opened(),
		LastSeen:    c.session.Seen(),
		Received:    c.session.Received(),
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
	if !c.session.End(&CloseError{Cause: CauseServer, Code: code, Reason: reason}, transport.CloseGrace) {
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

// absent reports whether the connection was lost and may come back.
func (c *Conn) absent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase == absent
}

// answer gives the connection the answer to what it sent. It is never dropped.
func (c *Conn) answer(frame *sendqueue.Frame) { c.give(wire.Uniform(frame), sendqueue.Reply) }

// tell gives the connection what it must not miss and has not asked for.
func (c *Conn) tell(frame *sendqueue.Frame) { c.give(wire.Uniform(frame), sendqueue.Vital) }

// give gives the connection something that is for it alone.
func (c *Conn) give(f *wire.Frames, p sendqueue.Priority) {
	c.m.counters.Add(metrics.Matched, 1) // first: Close does not wait for the caller
	c.push(f, p, sendqueue.Disconnect)
	f.Settle(&c.m.counters.Queues.Budget)
}

// run runs code of the application for the connection in a goroutine of its own.
func (c *Conn) run(f func()) {
	c.m.sessions.tails.run(func() { c.session.Do(f) })
}

// connHandler is a connection as its session sees it.
type connHandler Conn

// Command implements session.Handler.
func (h *connHandler) Command(cmd wire.Command) { h.m.dispatch.run((*Conn)(h), cmd) }

// Ended implements session.Handler.
func (h *connHandler) Ended(why *CloseError) { go h.m.sessions.farewell((*Conn)(h), why) }

// currentRoom is what a plain client means by its room.
func (c *Conn) currentRoom() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rooms.newest == nil {
		return DefaultRoom
	}
	return c.rooms.newest.room
}

func (c *Conn) isIn(room string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rooms.find(room) != nil
}

// askedFor returns the rooms that the client has asked for.
func (c *Conn) askedFor() (rooms []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for m := c.rooms.newest; m != nil; m = m.older {
		if m.asked {
			rooms = append(rooms, m.room)
		}
	}
	return rooms
}
