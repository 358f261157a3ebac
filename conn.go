package realtime

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/admission"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/names"
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

	at listIndex // its place among all connections
}

// connKey is the key of the connection in its context. home is the Manager's handlers.
type connKey struct{ home *session.Handlers }

// inHandler reports whether ctx is that of a connection of this home for which code of
// the application runs right now.
func inHandler(ctx context.Context, home *session.Handlers) bool {
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

// listIndex is where a connection is in the lists.
type listIndex struct {
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
	n := c.queue.Counts()
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
// It returns ErrInvalidCloseCode for any other code, and ErrClosed if the connection has
// ended already.
func (c *Conn) Close(code CloseCode, reason string) error {
	if !code.Sendable() {
		return ErrInvalidCloseCode
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
	c.m.registry.handlers.Go(func() { c.session.Do(f) })
}

// connHandler is a connection as its session sees it.
type connHandler Conn

// Command implements session.Handler.
func (h *connHandler) Command(cmd wire.Command) { h.m.commands.run((*Conn)(h), cmd) }

// Ended implements session.Handler.
func (h *connHandler) Ended(why *CloseError) { go h.m.registry.cleanUp((*Conn)(h), why) }

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

// membership is a connection's place in a room.
type membership struct {
	conn *Conn
	room string

	older, newer *membership // in order of joining; guarded by conn.mu

	asked bool // the client asked for it; guarded by conn.mu

	sub     *recovery.Subscription // nil in a room that keeps no history
	index   int                    // index among the room's members; guarded by the room
	visible bool                   // in the room's roster, and announced; guarded by the room
	absent  bool                   // no member, and in the roster if shown; guarded by the room
}

// memberships are the rooms of a connection, whose lock guards them. The zero value is ready.
type memberships struct {
	n       int                    // rooms
	newest  *membership            // the room joined last
	byName  map[string]*membership // nil while they are few
	apiRoom string                 // the room that the REST interface put it into, or empty
	parted  bool                   // it has left a room
}

// fewRooms is how many rooms are found by a walk. A map is not faster for so few, and takes more
// memory than the rooms of most connections.
const fewRooms = 16

// find returns the membership in a room, or nil.
func (ms *memberships) find(room string) *membership {
	if ms.byName != nil {
		return ms.byName[room]
	}
	m := ms.newest
	for m != nil && m.room != room {
		m = m.older
	}
	return m
}

// names returns the rooms in order of joining.
func (ms *memberships) names() []string {
	names := make([]string, ms.n)
	for m, i := ms.newest, len(names); m != nil; m = m.older {
		i--
		names[i] = m.room
	}
	return names
}

// add adds a membership.
func (ms *memberships) add(m *membership) {
	if m.older = ms.newest; m.older != nil {
		m.older.newer = m
	}
	ms.newest = m
	if ms.n++; ms.n <= fewRooms {
		return
	}
	if ms.byName != nil {
		ms.byName[m.room] = m
		return
	}
	ms.byName = make(map[string]*membership)
	for m := ms.newest; m != nil; m = m.older {
		ms.byName[m.room] = m
	}
}

// remove removes a membership.
func (ms *memberships) remove(m *membership) {
	ms.parted = true
	ms.n--
	delete(ms.byName, m.room)
	if m.older != nil {
		m.older.newer = m.newer
	}
	if m.newer != nil {
		m.newer.older = m.older
	} else {
		ms.newest = m.older
	}
	if ms.apiRoom == m.room {
		ms.apiRoom = ""
	}
}

// receiver is what a connection is to who sends to it. A room has a copy of it for each
// member, so that its walk through thousands of them waits for less memory.
type receiver struct {
	queue    *sendqueue.Queue
	proto    wire.Protocol
	deflates bool // the transport negotiated compression
	checks   bool // its subscription has to be asked, see recovery.Subscriber
}

// push gives the connection its form of a message.
func (r *receiver) push(f *wire.Frames, class sendqueue.Priority, policy sendqueue.Policy) sendqueue.Outcome {
	return r.queue.Push(f.For(r.proto, r.deflates), class, policy)
}

// plain returns a receiver without a subscription. It may be called without the lock of that.
func (r *receiver) plain() receiver {
	return receiver{queue: r.queue, proto: r.proto, deflates: r.deflates}
}

// Ping sends a ping and returns how long the peer took to answer. It waits until
// ctx or the connection ends, and returns the context's cause then. It may be called
// inside a handler of the same connection: what comes in meanwhile waits, and beyond 64 messages or
// 256 KiB Ping returns ErrBacklog. In OnConnect it returns ErrNotOpen: nothing is written to the
// peer before that has returned.
func (c *Conn) Ping(ctx context.Context) (time.Duration, error) {
	if c.opening() {
		return 0, ErrNotOpen
	}
	return c.session.Ping(ctx)
}

// Call asks the client for something by name, with any JSON or none, and returns what it
// answers: JSON, or nil if that is empty. It waits until ctx or the connection ends, and returns
// the context's cause then; nothing else limits how long a client takes. It may be called
// inside a handler of the same connection: what comes in meanwhile waits, and beyond 64 messages or
// 256 KiB Call returns ErrBacklog. It keeps no reference to content. See the function [Call] for
// one with types.
//
// It returns a *ClientError if the client answers with an error, as our clients do with the code
// "busy" beyond 16 calls at a time in Go and 100 in JavaScript, ErrPlainProtocol for a client that does
// not speak realtime.v1, ErrNotOpen in OnConnect, ErrInvalidName for an invalid method, ErrInvalidMessage for
// content that is not JSON, ErrTooLarge, and ErrClosed if the connection has ended. A client whose
// queue is full is ended with code 4300, whatever Options.Slow is.
func (c *Conn) Call(ctx context.Context, method string, content json.RawMessage) (json.RawMessage, error) {
	if err := c.checkCall(method, content); err != nil {
		return nil, err
	}
	answer, err := c.session.Call(ctx, func(number uint64) {
		id := strconv.AppendUint(nil, number, 10)
		buf := wire.AppendCall(sendqueue.Grow(wire.Overhead+len(method)+len(content)), id, method, content)
		c.tell(wire.Announced(sendqueue.Seal(sendqueue.OpText, buf)))
	})
	if e, ok := err.(*session.ReplyError); ok {
		err = (*ClientError)(e)
	}
	return answer, err
}

func (c *Conn) checkCall(method string, content json.RawMessage) error {
	switch {
	case c.proto != wire.ProtoV1:
		return ErrPlainProtocol
	case c.session.Ended():
		return ErrClosed
	case c.opening():
		return ErrNotOpen
	}
	if err := names.CheckMethod(method); err != nil {
		return err
	}
	return checkMessage(&Message{Content: content}, c.m.opts.Limits.QueueBytes/2)
}

// Call is [Conn.Call] with types: req is sent as what encoding/json makes of it, nil as
// nothing, and the answer is decoded into a Res. It returns an error of encoding/json if
// either fails.
func Call[Res any](ctx context.Context, c *Conn, method string, req any) (res Res, err error) {
	var content json.RawMessage
	if req != nil {
		if content, err = json.Marshal(req); err != nil {
			return res, fmt.Errorf("realtime: call of %s: %w", method, err)
		}
	}
	content, err = c.Call(ctx, method, content)
	if err != nil || content == nil {
		return res, err
	}
	if err = json.Unmarshal(content, &res); err != nil {
		err = fmt.Errorf("realtime: answer to %s: %w", method, err)
	}
	return res, err
}
