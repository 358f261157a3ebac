package realtime

import (
	"bytes"
	"context"
	"crypto/rand"
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

// Conn is one connection of a client, such as a device or a browser tab, with its identity and its
// rooms. All methods are safe for concurrent use, also after the connection has ended.
type Conn struct {
	m       *Manager
	id      string
	session session.Session
	receiver
	address   netip.Addr         // see admission.AddrKey
	began     admission.Decision // when its admission began
	connected atomic.Bool        // OnConnect returned nil
	unhandled atomic.Int32       // joins and returns that OnRoom has not handled
	expiry    atomic.Pointer[expiry]
	former    atomic.Pointer[[]string] // ids of connections whose session it has resumed; may be nil
	state     atomic.Pointer[connState]

	lagging recovery.Lagging
	inbox   *recovery.Subscription // nil without an inbox

	mu             sync.Mutex
	phase          phase
	detachedMemory int32         // memory that it takes while it is detached, in bytes
	infoSet        bool          // identity.Info is from SetInfo
	at             listIndex     // not guarded by mu
	identity       Identity      // the user id never changes and is read without mu
	expires        time.Duration // when the identity expires, since the opening; zero: never
	guest          string        // distinguishes anonymous senders; empty until it sends
	rooms          memberships
	finalRooms     *[]string // that it was in when it ended; nil before
	presenceKey    string    // chosen by its client, or empty; never changes
}

// connKey is the key of the connection in its context, and of a flag in the context of a room event
// that says whether OnRoom is running. It contains the handlers of the Manager, so that a
// connection of another Manager is not found.
type connKey struct{ handlers *session.HandlerGroup }

// inHandler reports whether ctx is the context of a connection of this Manager in whose handler
// code of the application is running, or that of a room event that OnRoom is handling.
func inHandler(ctx context.Context, handlers *session.HandlerGroup) bool {
	switch in := ctx.Value(connKey{handlers}).(type) {
	case *Conn:
		return in.session.InHandler()
	case *atomic.Bool: // of a room event
		return in.Load()
	}
	return false
}

type phase uint8

const (
	registering phase = iota // found by its id only
	live
	detachedPhase // its session is detached
	gone
)

// listIndex is the place of a connection in the lists of live connections.
type listIndex struct {
	segment uint8
	index   int32 // in the segment; guarded by the segment
	device  int32 // among the user's connections; guarded by the user
}

// ID returns the id of the connection: "conn_" and a random UUID. The peer knows it. It is not a
// credential.
func (c *Conn) ID() string { return c.id }

// UserID returns the id of the user, empty for an anonymous connection. It never changes.
func (c *Conn) UserID() string { return c.identity.UserID }

// Identity returns the identity that Authenticate returned, or the one that has renewed it, see
// [Conn.Renew].
func (c *Conn) Identity() Identity {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.identity
}

// Renew replaces the identity of the connection by a newer one of the same user, with another
// expiry, other Data or other Info. The device stays the same, and so does the Info if that of id
// is nil. Options.Revalidate does the same. Renew does not block. It ends nothing that the new
// identity has no permission for: the application must take the connection out of such rooms.
//
// It returns ErrForbidden for another user, ErrUnauthenticated for an identity that has expired,
// the errors of [Conn.SetInfo] for its Info, and ErrClosed if the connection has ended.
func (c *Conn) Renew(id Identity) error {
	info, err := checkInfo(id.Info)
	switch {
	case err != nil:
		return err
	case id.UserID != c.UserID():
		return ErrForbidden
	case id.expired(time.Now()):
		return ErrUnauthenticated
	case c.session.Ended():
		return ErrClosed
	}
	c.mu.Lock()
	// The user id and the device are read without the lock, so they stay.
	c.identity.Data, c.identity.ExpiresAt = id.Data, id.ExpiresAt
	c.setDeadline(id)
	if info != nil {
		c.setInfo(bytes.Clone(info))
	}
	c.mu.Unlock()
	c.watchExpiry()
	return nil
}

// deadline returns when the identity expires; zero means never.
func (c *Conn) deadline() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.expires == 0 {
		return time.Time{}
	}
	return c.session.Opened().Add(c.expires)
}

// setDeadline notes when id expires. c.mu is held, unless c is new.
func (c *Conn) setDeadline(id Identity) {
	c.expires = 0
	if at := id.deadline(time.Now()); !at.IsZero() {
		c.expires = max(1, at.Sub(c.session.Opened()))
	}
}

// Context returns the context of the connection. It ends with the connection; then its cause is a
// *CloseError. While a handler of the connection runs, the loss of the client may be noticed five
// seconds late. The values of the context are those that Options.ConnContext chose, or those of the
// context that was passed to [Manager.Register].
func (c *Conn) Context() context.Context { return c.session.Context() }

// sender returns the sender of the client's messages: message ids are unique for each sender.
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

// maxFormer bounds the ids that a connection keeps of earlier connections of its session.
const maxFormer = 16

// follow records that the connection has resumed the session of an earlier one.
func (c *Conn) follow(old *Conn) {
	ids := []string{old.id}
	if former := old.former.Load(); former != nil {
		ids = append(ids, (*former)[:min(len(*former), maxFormer-1)]...)
	}
	c.former.Store(&ids)
}

// named reports whether ids contains the connection or an earlier connection of its session.
func (c *Conn) named(ids []string) bool {
	if len(ids) == 0 {
		return false
	}
	if slices.Contains(ids, c.id) {
		return true
	}
	former := c.former.Load()
	return former != nil &&
		slices.ContainsFunc(*former, func(id string) bool { return slices.Contains(ids, id) })
}

// excluded reports whether a target excludes the connection or its user.
func (c *Conn) excluded(t *broker.Target) bool {
	return c.named(t.ExceptConns) || c.UserID() != "" && slices.Contains(t.ExceptUsers, c.UserID())
}

// source returns the source of log lines about the connection: its address, or its id without one.
func (c *Conn) source() string {
	if c.address.IsValid() {
		return c.address.String()
	}
	return c.id
}

// Rooms returns the names of the rooms that the connection is in, in the order of joining. After
// the connection has ended, they are the rooms that it was in at its end, also in OnDisconnect.
func (c *Conn) Rooms() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.finalRooms != nil {
		return slices.Clone(*c.finalRooms)
	}
	return c.rooms.names()
}

// keepRooms keeps the rooms of a connection that has ended for Rooms. c.mu is held.
func (c *Conn) keepRooms() {
	if c.finalRooms == nil {
		names := c.rooms.names()
		c.finalRooms = &names
	}
}

// In reports whether the connection is in a room. After the connection has ended it is in none,
// unless its session is detached, see Timeouts.Resume.
func (c *Conn) In(room string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rooms.find(room) != nil
}

// Manager returns the Manager of the connection.
func (c *Conn) Manager() *Manager { return c.m }

// Join is [Manager.Join] for this connection. It returns ErrClosed if the connection has ended.
func (c *Conn) Join(ctx context.Context, room string) (joined bool, err error) {
	j, err := c.JoinFrom(ctx, room, From{})
	return j.New, err
}

// JoinFrom is Join for a room that keeps history, see Options.History: the connection receives
// first the kept messages after from, and then the live messages, with none missing and none twice.
// If the connection is in the room already and from is not zero, it goes back to from. In a room
// that keeps nothing, JoinFrom is Join and from is ignored, but for Joined.Reason.
//
// JoinFrom may wait for the broker until ctx ends. It does not wait for the client: kept messages
// are sent as fast as the client reads. It returns the errors of Join.
func (c *Conn) JoinFrom(ctx context.Context, room string, from From) (Joined, error) {
	op := &joinOp{room: room, from: from}
	err := c.m.joins.join(ctx, c, op)
	return op.joined, err
}

// Leave is [Manager.Leave] for this connection. If the connection has ended and its session is
// detached, see Timeouts.Resume, the session leaves the room.
func (c *Conn) Leave(_ context.Context, room string) (left bool, err error) {
	if err := checkRoom(room); err != nil {
		return false, err
	}
	left, _ = c.m.joins.leave(c, room, nil)
	return left, nil
}

// Send sends a [NewMessage] to this connection, with [Manager.Send]. If the connection has ended,
// Result.Matched is zero.
func (c *Conn) Send(ctx context.Context, typ string, content any) (Result, error) {
	return c.m.sendNew(ctx, ToConn(c.id), typ, content)
}

// Info is a snapshot of the state and the counters of a connection.
type Info struct {
	RemoteAddr  string // for humans; without a port if a proxy has reported it
	ConnectedAt time.Time
	LastSeen    time.Time // when the last frame of any kind arrived
	Received    uint64    // messages from the peer
	Sent        uint64    // messages to the peer that were written to its socket
	Queued      int       // messages that wait to be written
	QueuedBytes int       // size of the queued messages
	Dropped     uint64    // messages and notices that were dropped, see SlowPolicy
}

// Info returns a snapshot of the state and the counters of the connection.
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

// Close ends the connection: the send queue is written, then a close frame, and after at most a
// second the socket is closed. Close does not wait. The reason is cut to 123 bytes. The code may be
// 1000, 1001, 1008, 1011 to 1013, or 3000 to 4999.
//
// It returns ErrInvalidCloseCode for any other code, and ErrClosed if the connection has ended
// already.
func (c *Conn) Close(code CloseCode, reason string) error {
	if !code.Sendable() {
		return ErrInvalidCloseCode
	}
	why := &CloseError{Cause: CauseServer, Code: code, Reason: reason}
	if !c.session.End(why, transport.CloseGrace) {
		return ErrClosed
	}
	return nil
}

// opening reports whether the connection is registering: nothing is written to the peer yet.
func (c *Conn) opening() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase == registering
}

// isDetached reports whether the session is detached.
func (c *Conn) isDetached() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase == detachedPhase
}

// answer sends the reply to a request of the client. It is never dropped.
func (c *Conn) answer(frame *sendqueue.Frame) { c.give(wire.Uniform(frame), sendqueue.Reply) }

// tell sends a frame that the client must not miss and has not asked for.
func (c *Conn) tell(frame *sendqueue.Frame) { c.give(wire.Uniform(frame), sendqueue.Vital) }

// give sends a frame to this connection alone.
func (c *Conn) give(f *wire.Frames, p sendqueue.Priority) {
	// Before the push: Close does not wait for the caller, and each frame must count as matched.
	c.m.counters.Add(metrics.Matched, 1)
	c.queue.Push(f.For(c.proto, c.deflates), p, sendqueue.Disconnect)
	f.Settle(&c.m.counters.Queues.Budget)
}

// run calls code of the application in a new goroutine.
func (c *Conn) run(f func()) {
	c.m.registry.handlers.Go(func() { c.session.Do(f) })
}

// connHandler is a connection as its session sees it.
type connHandler Conn

// Ping implements session.Handler.
func (h *connHandler) Ping() { (*Conn)(h).answer(wire.Pong()) }

// Seen implements session.Handler.
func (h *connHandler) Seen(frames uint64) {
	if s := (*Conn)(h).state.Load(); s != nil {
		s.pace.Seen(frames)
	}
}

// Command implements session.Handler.
func (h *connHandler) Command(cmd wire.Command) {
	c := (*Conn)(h)
	if c.unhandled.Load() > 0 {
		if c.m.events.wait(c.session.Context(), c) != nil || c.session.Ended() {
			return
		}
	}
	c.m.commands.run(c, cmd)
}

// Value implements session.Handler.
func (h *connHandler) Value(key any) any {
	if key == (connKey{&h.m.registry.handlers}) {
		return (*Conn)(h)
	}
	return nil
}

// Ended implements session.Handler.
func (h *connHandler) Ended(why *CloseError) { go h.m.registry.cleanUp((*Conn)(h), why) }

// currentRoom returns the room to which a plain client sends: the one that it joined last, or
// DefaultRoom.
func (c *Conn) currentRoom() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rooms.newest == nil {
		return DefaultRoom
	}
	return c.rooms.newest.room
}

// askedFor returns the rooms that the client itself has asked to join.
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

// membership is the place of a connection in a room.
type membership struct {
	conn *Conn
	room string

	older, newer *membership // in order of joining; guarded by conn.mu

	asked bool // the client asked for it; guarded by conn.mu

	sub      *recovery.Subscription // nil in a room that keeps no history
	view     *view                  // of the state of the room; nil if there is none
	index    int                    // among the room's members, or its detached sessions; guarded by it
	visible  bool                   // in the roster, and announced; guarded by the room
	detached bool                   // of a detached session: not a member; guarded by the room
}

// memberships are the rooms of a connection. They are guarded by conn.mu. The zero value is ready.
type memberships struct {
	newest  *membership            // the room joined last
	byName  map[string]*membership // nil while there are few
	apiRoom string                 // the room that it joined by the REST interface, or empty
	n       int32                  // rooms
	parted  bool                   // it has left a room
}

// fewRooms is how many rooms are searched without a map. For so few, a map is not faster, and it
// takes more memory than the rooms of most connections.
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

// names returns the names of the rooms in the order of joining.
func (ms *memberships) names() []string {
	names := make([]string, ms.n)
	for m, i := ms.newest, len(names); m != nil; m = m.older {
		i--
		names[i] = m.room
	}
	return names
}

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

// receiver is the part of a connection that a sender needs. A room has a copy of it for each
// member, so that a walk through thousands of members loads less memory.
type receiver struct {
	queue    *sendqueue.Queue
	proto    wire.Protocol
	deflates bool // the transport negotiated compression
	checks   bool // its subscription must check each message, see recovery.Subscriber
}

// push puts the encoding of a message for this connection into its send queue.
func (r *receiver) push(
	w *sendqueue.Wakeups, f *wire.Frames, priority sendqueue.Priority, policy sendqueue.Policy,
) sendqueue.Outcome {
	return w.Push(r.queue, f.For(r.proto, r.deflates), priority, policy)
}

// withoutChecks returns r without checks. It does not read checks, so it needs no lock.
func (r *receiver) withoutChecks() receiver {
	return receiver{queue: r.queue, proto: r.proto, deflates: r.deflates}
}

// Ping sends a ping and returns how long the peer took to answer. It waits until ctx or the
// connection ends, and then returns the cause of that context.
//
// A handler of the same connection may call it. Messages that arrive meanwhile wait; if they are
// more than 64 messages or 256 KiB, Ping returns ErrBacklog. In OnConnect it returns ErrNotOpen,
// because nothing is written to the peer before OnConnect has returned.
func (c *Conn) Ping(ctx context.Context) (time.Duration, error) {
	if c.opening() {
		return 0, ErrNotOpen
	}
	return c.session.Ping(ctx)
}

// Call calls a method of the client of c, and returns its answer. A nil req is no content, a []byte
// is sent as bytes, a json.RawMessage as it is, and any other value as encoding/json encodes it.
// The answer is decoded in the same way: a Res of type []byte is for an answer in bytes, a
// json.RawMessage for any JSON. If the answer has no content, Call returns the zero Res.
//
// Call waits until ctx or the connection ends, and then returns the cause of that context; there is
// no other limit of time. It keeps no reference to req.
//
// A handler of the same connection may call it. Messages that arrive meanwhile wait; if they are
// more than 64 messages or 256 KiB, Call returns ErrBacklog. If the send queue of the client is
// full, the connection is closed with code 4300, whatever Options.Slow is.
//
// Call returns a *ClientError if the client answers with an error; the clients of this project
// answer "busy" to more than 16 calls at a time in Go, and 100 in JavaScript. It returns
// ErrPlainProtocol if the client does not speak realtime.v1, ErrNotOpen in OnConnect,
// ErrInvalidName for an invalid method, ErrInvalidMessage for a json.RawMessage that is not JSON,
// ErrTooLarge, and ErrClosed if the connection has ended. Any other error says that req cannot be
// encoded, or that the answer is not for a Res.
func Call[Res any](ctx context.Context, c *Conn, method string, req any) (res Res, err error) {
	return wire.TypedCall[Res](method, req, func(content wire.Content) (wire.Content, error) {
		return c.call(ctx, method, content)
	})
}

func (c *Conn) call(
	ctx context.Context, method string, content wire.Content,
) (wire.Content, error) {
	if err := c.checkCall(method, content); err != nil {
		return wire.Content{}, err
	}
	answer, err := c.session.Call(ctx, func(number uint64) {
		c.tell(wire.Call(strconv.AppendUint(nil, number, 10), method, content))
	})
	if e, ok := err.(*session.ReplyError); ok {
		err = (*ClientError)(e)
	}
	return answer, err
}

func (c *Conn) checkCall(method string, content wire.Content) error {
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
	return c.m.checkContent(content)
}
