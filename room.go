package realtime

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/admission"
	"github.com/realtime-go/realtime/internal/cluster"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/parts"
	"github.com/realtime-go/realtime/internal/recovery"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/shardmap"
	"github.com/realtime-go/realtime/internal/shrink"
	"github.com/realtime-go/realtime/internal/state"
	"github.com/realtime-go/realtime/internal/transport"
	"github.com/realtime-go/realtime/internal/wire"
)

// Room is a handle on a room, whether or not the room has members. It is a small value that
// [Manager.Room] returns. All methods are safe for concurrent use. Those that return an error
// return ErrInvalidName if the name breaks the rules of [ValidName], as does the name of the zero
// Room.
type Room struct {
	m    *Manager
	name string
}

// Room returns the handle on the room with this name. It does not create the room.
func (m *Manager) Room(name string) Room { return Room{m, name} }

// Name returns the room's name.
func (r Room) Name() string { return r.name }

func (r Room) check() error { return checkRoom(r.name) }

// Users returns the users in the room, each once, sorted. It includes the users of detached
// sessions, see Timeouts.Resume, and does not include anonymous connections.
//
// With a broker that connects several processes, it waits for those with members of the room, for a
// quarter of a second at most: if one does not answer, Users returns the others and an error that
// matches ErrUnavailable. Otherwise it does not block.
func (r Room) Users(ctx context.Context) ([]string, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	all, err := r.m.rosters(ctx, r.name)
	return all.Users, err
}

// Count returns how many users and connections are in the room. In one process it takes the same
// time for a large room as for a small one, and does not block. With several processes, it is like
// Users.
func (r Room) Count(ctx context.Context) (Count, error) {
	if err := r.check(); err != nil {
		return Count{}, err
	}
	if !r.m.node.Alone() {
		all, err := r.m.rosters(ctx, r.name)
		return all.Count, err
	}
	found := r.m.rooms.lock(r.name)
	if found == nil {
		return Count{}, nil
	}
	defer found.mu.Unlock()
	return found.count(), nil
}

// LocalConns returns the connections in the room in this process, as of the call. It returns none
// if the name of the room is invalid.
func (r Room) LocalConns() iter.Seq[*Conn] {
	if r.check() != nil {
		return slices.Values[[]*Conn](nil)
	}
	found := r.m.rooms.lock(r.name)
	if found == nil {
		return slices.Values[[]*Conn](nil)
	}
	defer found.mu.Unlock()
	return slices.Values(found.conns())
}

// Send sends a [NewMessage] to the room, with [Manager.Send].
func (r Room) Send(ctx context.Context, typ string, content any) (Result, error) {
	if err := r.check(); err != nil {
		return Result{}, err
	}
	return r.m.sendNew(ctx, ToRoom(r.name), typ, content)
}

// Remove takes all connections and detached sessions of a user out of the room, in all processes,
// and returns how many. If the authorisation of a join is in progress, for a client or for the REST
// handler, that join fails with ErrDenied. The authorizer decides about later joins. When Remove
// returns, the user is not a member, unless the application calls Join or JoinFrom. With a broker
// that connects several processes, Remove waits for their answers, for two seconds at most: if one
// does not answer, it returns an error that matches ErrUnavailable and names it. Otherwise it does
// not block.
func (r Room) Remove(ctx context.Context, user string) (int, error) {
	if err := cmp.Or(r.check(), checkUser(user)); err != nil {
		return 0, err
	}
	n := r.m.remove(r.name, user)
	return r.m.everywhere(ctx, n, askRemove, &ask{User: user, Room: r.name})
}

// remove is Room.Remove in this process.
func (m *Manager) remove(room, user string) (n int) {
	m.revocations.Revoke(admission.Subject{User: user, Room: room})
	for _, c := range append(m.rooms.conns(room, user), m.users.detachedOf(user)...) {
		if left, _ := m.joins.leave(c, room, nil); left {
			n++
		}
	}
	return n
}

// Deny keeps a user out of the room for the duration d, calls [Room.Remove], and returns its
// result. During that time, every join of the user returns ErrDenied, including [Manager.Join]. If
// d is zero or negative, Deny ends an earlier Deny, and removes nobody. What [User.Deny] says of
// several processes holds for it, too.
func (r Room) Deny(ctx context.Context, user string, d time.Duration) (int, error) {
	if err := cmp.Or(r.check(), checkUser(user)); err != nil {
		return 0, err
	}
	return r.m.denials.deny(ctx, admission.Subject{User: user, Room: r.name}, d)
}

// LocalRooms returns the names of the rooms of this process, sorted, as of the call: all rooms that
// have members, detached sessions, a join in progress, or events that Options.OnRoom handles.
func (m *Manager) LocalRooms() iter.Seq[string] {
	var names []string
	for _, r := range m.rooms.index.Values() {
		if r.name != everybody {
			names = append(names, r.name)
		}
	}
	slices.Sort(names)
	return slices.Values(names)
}

// RoomOptions configures one room, see Options.Room.
type RoomOptions struct {
	// Slow is what happens to a message to the room for a member whose queue is full. Zero:
	// Options.Slow.
	Slow SlowPolicy
	// History is how much the room keeps. Zero Messages: Options.History. Negative Messages:
	// nothing.
	History Retention
	// Show is what the room shows of its members. Zero: Options.Show.
	Show Show
}

// Count is how many users and connections are in a room. Detached sessions count, see
// Timeouts.Resume.
type Count struct {
	Users int // each user once; anonymous connections do not count
	Conns int // anonymous connections count
}

// room is a room of this process. It exists while it has members or holds.
type room struct {
	name    string
	policy  roomPolicy
	m       *Manager
	topic   *recovery.Topic  // nil if the room keeps nothing
	opening *opening         // nil before the first join, and if there are no other nodes
	subject *cluster.Subject // what other nodes send to the room
	state   *state.Room      // nil if the room uses none

	mu            sync.Mutex
	members       []member
	users         map[string]attendance
	peakUsers     int              // see shrink.Delete
	detached      []*membership    // of detached sessions
	holds         int32            // joins in progress and detached sessions
	shown         int32            // connections in the roster
	part          *parts.Room      // what is shown of members of other nodes; nil if there are none
	foreign       Count            // of the members of other nodes
	elsewhere     map[string]int32 // connections of users at other nodes
	peakElsewhere int              // see shrink.Delete
	plain         int32            // members that speak the plain protocol
	dead          bool             // removed from the index; a new room can have the name
	changes       uint64           // of the roster
	lists         *memberLists     // nil before a client has asked for one
	queue         *roomQueue       // nil while no event waits for OnRoom
}

// attendance is how many connections of a user are in the roster of a room, and how many of these
// have a detached session.
type attendance struct{ conns, away int32 }

// absent reports whether all connections of a user that are in the room are away.
func (a attendance) absent() bool { return a.conns > 0 && a.away == a.conns }

// member is one entry in the list that a delivery walks through.
type member struct {
	receiver
	*membership
}

// rooms is the index of rooms by name.
type rooms struct {
	index *shardmap.Map[*room]
	m     *Manager
}

func newRooms(m *Manager) *rooms { return &rooms{index: shardmap.New[*room](), m: m} }

// lockNew returns the room with this name, locked. If there is none, it makes one with policy p.
// The caller adds a member or a hold, and calls unlock.
func (rs *rooms) lockNew(name string, p roomPolicy) *room {
	for {
		r := rs.index.GetOrPut(name, func() *room {
			rs.m.counters.Rooms.Add(1)
			return rs.newRoom(name, p)
		})
		r.mu.Lock()
		if !r.dead {
			return r
		}
		r.mu.Unlock()
		rs.index.CompareAndDelete(name, r)
	}
}

// part returns the part of a room that is shared with other nodes, or nil.
func (rs *rooms) part(name string) *parts.Room {
	r := rs.lock(name)
	if r == nil {
		return nil
	}
	defer r.mu.Unlock()
	return r.part
}

// foundNobody notes that no other node has a room, unless its part has become another one.
func (rs *rooms) foundNobody(name string, part *parts.Room) {
	if r := rs.lock(name); r != nil {
		if r.part != nil && r.part == part {
			r.part.FoundNobody()
		}
		r.mu.Unlock()
	}
}

// newRoom returns a room with policy p that is not in the index.
func (rs *rooms) newRoom(name string, p roomPolicy) *room {
	r := &room{name: name, policy: p, m: rs.m, subject: rs.m.node.EnterRoom(name)}
	r.usePart()
	if p.Keeps() {
		r.topic = recovery.NewTopic(broker.RoomStream(name), name, p.Policy, &r.mu)
	}
	return r
}

// lock returns the room with this name, locked, or nil if there is none.
func (rs *rooms) lock(name string) *room {
	r, ok := rs.index.Get(name)
	if !ok {
		return nil
	}
	r.mu.Lock()
	if r.dead {
		r.mu.Unlock()
		return nil
	}
	return r
}

// unlock unlocks a room, and removes it if it has no members and no holds. Its state ends with its
// members: those who come next must not see what these have left.
func (rs *rooms) unlock(r *room) {
	if r.deserted() {
		if r.state != nil {
			r.state.Close()
			r.state = nil
		}
		if r.opening != nil { // others joined meanwhile would not be known
			r.flushPart()
			r.usePart()
			clear(r.users)
			r.opening, r.elsewhere = nil, nil
		}
	}
	if len(r.members) > 0 || r.holds > 0 {
		r.mu.Unlock()
		return
	}
	r.dead = true
	rs.m.counters.Rooms.Add(-1)
	if r.topic != nil {
		r.topic.Close(rs.m.broker)
	}
	r.subject.Leave()
	r.mu.Unlock()
	rs.index.CompareAndDelete(r.name, r)
}

// hold returns the room with this name, not locked, and keeps it until release. It waits until what
// other nodes send to the room arrives. If the room keeps history, it subscribes to its stream: then
// it waits for the broker until ctx ends.
func (rs *rooms) hold(ctx context.Context, name string, p roomPolicy) (*room, error) {
	r := rs.lockNew(name, p)
	r.holds++
	r.mu.Unlock()
	r.subject.Wait(ctx)
	if r.topic == nil {
		return r, nil
	}
	if err := r.topic.Open(ctx, rs.m.broker); err != nil {
		rs.release(r)
		return nil, err
	}
	return r, nil
}

// deserted reports whether nobody is in the room at this node, nor waits for what others say of it.
func (r *room) deserted() bool { return len(r.members) == 0 && r.shown == 0 && r.name != everybody }

// release undoes hold.
func (rs *rooms) release(r *room) {
	r.mu.Lock()
	r.holds--
	rs.unlock(r)
}

// conns returns the connections of a user, not "", that are in a room. It includes those that are
// not in the roster of the room yet.
func (rs *rooms) conns(name, user string) (conns []*Conn) {
	r := rs.lock(name)
	if r == nil {
		return nil
	}
	defer r.mu.Unlock()
	for i := range r.members {
		if c := r.members[i].conn; c.UserID() == user {
			conns = append(conns, c)
		}
	}
	return conns
}

// add makes m a receiver of messages. Only show puts m into the roster.
func (r *room) add(m *membership) {
	m.index = len(r.members)
	r.members = append(r.members, member{m.conn.withoutChecks(), m})
	if m.conn.proto == wire.ProtoPlain {
		r.plain++
	}
	if r.topic != nil {
		c := m.conn
		m.sub = r.m.fetcher.Subscribe(recovery.Config{
			Topic: r.topic, Subscriber: &roomSubscriber{(*subscriber)(c), m, r},
			Queue: c.queue, Protocol: c.proto, Lagging: &c.lagging,
		})
	}
}

// subscriber is a connection as package recovery sees it.
type subscriber Conn

// Context implements recovery.Subscriber.
func (s *subscriber) Context() context.Context { return s.session.Context() }

// Ended implements recovery.Subscriber.
func (s *subscriber) Ended() bool { return s.session.Ended() }

// Fail implements recovery.Subscriber.
func (s *subscriber) Fail(err error) {
	why := &CloseError{
		Cause: CauseServer, Code: CloseInternal, Reason: "internal error", Err: err,
	}
	if errors.Is(err, ErrUnavailable) {
		why.Code, why.Reason = CloseLater, temporarilyUnavailable
	}
	s.session.End(why, transport.CloseGrace)
}

// Excluded implements recovery.Subscriber.
func (s *subscriber) Excluded(t *broker.Target) bool { return (*Conn)(s).excluded(t) }

// Charge implements recovery.Subscriber.
func (s *subscriber) Charge(bytes int) { s.session.Bill().Bytes(bytes) }

// roomSubscriber is a member of a room that keeps history.
type roomSubscriber struct {
	*subscriber
	m *membership
	r *room
}

// SetNeedsCheck implements recovery.Subscriber.
func (s *roomSubscriber) SetNeedsCheck(yes bool) { s.r.members[s.m.index].checks = yes }

// Restart implements recovery.Subscriber. It is not called for rooms.
func (s *roomSubscriber) Restart(context.Context) (broker.Position, error) {
	return broker.Position{}, nil
}

// Acknowledge implements recovery.Subscriber. It is not called for rooms.
func (s *roomSubscriber) Acknowledge() {}

// show puts m into the roster. If tell is set and the room shows its members, it sends a notice to
// all plain members if m is the user's first connection in the roster, and otherwise to m only. It
// returns how many connections the notice was sent to, and how many watchers are told.
func (r *room) show(m *membership, tell bool) (told int) {
	m.visible = true
	r.shown++
	e := RoomEvent{Kind: MemberJoined, Conn: m.conn, Opened: r.shown == 1}
	first := r.attend(&e, 1, 0)
	r.m.events.add(r, e)
	told = r.enter(m)
	if m.detached {
		r.away(m)
	}
	switch {
	case !tell:
		return told
	case first:
		return told + r.notify(wire.RoomJoined, m)
	case r.policy.show != ShowMembers || m.conn.proto != wire.ProtoPlain:
		return told
	}
	notice := wire.RoomJoined(m.conn.UserID(), r.name)
	m.conn.give(&wire.Frames{Message: notice}, sendqueue.Notice)
	return told + 1
}

// detach ends the delivery to a member whose session is detached, and keeps it in the roster.
func (r *room) detach(m *membership) {
	r.drop(m)
	m.detached = true
	r.holds++
	r.addDetached(m)
	r.lostPart(m)
	if m.visible {
		r.away(m)
	}
}

// away adds the event for a member in the roster whose session was detached.
func (r *room) away(m *membership) {
	e := RoomEvent{Kind: MemberAway, Conn: m.conn}
	r.attend(&e, 0, 1)
	r.m.events.add(r, e)
}

// attend changes the attendance of the user of an event's connection, and sets the flags of the
// event about the user. It reports whether the user had no connection in the roster before or has
// none now, which is always true of an anonymous connection.
func (r *room) attend(e *RoomEvent, conns, away int32) (alone bool) {
	user := e.Conn.UserID()
	if user == "" {
		return true
	}
	before := r.users[user]
	now := attendance{before.conns + conns, before.away + away}
	r.setAttendance(user, now)
	e.UserJoined, e.UserLeft = before.conns == 0, now.conns == 0
	e.UserAway = !before.absent() && now.absent()
	e.UserBack = before.absent() && !now.absent() && !e.UserLeft
	return e.UserJoined || e.UserLeft
}

// setAttendance sets the attendance of a user, or forgets a user without connections.
func (r *room) setAttendance(user string, now attendance) {
	if now.conns <= 0 {
		r.users = shrink.Delete(r.users, user, &r.peakUsers)
		return
	}
	if r.users == nil {
		r.users = make(map[string]attendance)
	}
	r.users[user] = now
}

// showAs puts m into the roster, in the place of was, which belongs to a detached session of the
// same user and is taken from it. If was is nil, m is new, and showAs does the same as show.
func (r *room) showAs(m, was *membership) (told int) {
	if was == nil {
		return r.show(m, true)
	}
	was.conn.rooms.remove(was)
	r.succeed(was, m)
	return 0
}

// replace gives the place of m, whose session is detached, to next, which is not a member. The
// session of next may be detached as well.
func (r *room) replace(m, next *membership) {
	if !next.detached {
		r.add(next)
	}
	r.succeed(m, next)
}

// succeed puts next into the roster in the place of m, whose session is detached.
func (r *room) succeed(m, next *membership) {
	r.dropDetached(m)
	if next.detached {
		r.addDetached(next)
	} else {
		r.holds--
	}
	if next.visible = m.visible; !next.visible {
		r.show(next, false)
		return
	}
	e := RoomEvent{Kind: MemberBack, Conn: next.conn, Was: m.conn}
	r.attend(&e, 0, -1)
	r.m.events.add(r, e)
	next.inherit(m)
	r.lostPart(next)
	if next.detached {
		r.away(next)
	}
}

// remove takes m out of the room. If m was the user's last connection in the roster and the room
// shows its members, it sends a notice to the other plain members. It returns how many connections
// the notice was sent to, and how many watchers are told.
func (r *room) remove(m *membership) (told int) {
	away := int32(0)
	if m.detached {
		r.holds--
		r.dropDetached(m)
		away = -1
	} else {
		r.drop(m)
	}
	if !m.visible {
		return 0
	}
	r.shown--
	e := RoomEvent{Kind: MemberLeft, Conn: m.conn, Emptied: r.shown == 0}
	last := r.attend(&e, -1, away)
	r.m.events.add(r, e)
	told = r.exit(m)
	if !last {
		return told
	}
	return told + r.notify(wire.RoomLeft, m)
}

func (r *room) addDetached(m *membership) {
	m.index = len(r.detached)
	r.detached = append(r.detached, m)
}

func (r *room) dropDetached(m *membership) {
	last := len(r.detached) - 1
	r.detached[m.index] = r.detached[last]
	r.detached[m.index].index = m.index
	r.detached = shrink.Pop(r.detached)
}

// drop ends the delivery to m.
func (r *room) drop(m *membership) {
	last := len(r.members) - 1
	r.members[m.index] = r.members[last]
	r.members[m.index].index = m.index
	r.members = shrink.Pop(r.members)
	if m.conn.proto == wire.ProtoPlain {
		r.plain--
	}
	m.stopReading()
	if m.sub != nil {
		m.sub.Leave()
	}
}

// notify sends a notice about m to all plain members, if the room shows its members, and returns
// how many they are. It is encoded with the lock held, because only the room knows whether there is
// anybody to receive it.
func (r *room) notify(message func(user, room string) broker.Message, m *membership) (told int) {
	return r.notifyOf(message, m.conn.UserID())
}

// notifyOf is notify for a user.
func (r *room) notifyOf(message func(user, room string) broker.Message, user string) (told int) {
	if r.policy.show != ShowMembers || r.plain == 0 {
		return 0
	}
	r.m.counters.Add(metrics.Matched, int(r.plain))
	notice := &wire.Frames{Message: message(user, r.name)}
	var wakeups sendqueue.Wakeups
	defer wakeups.Flush()
	for i := range r.members {
		if to := &r.members[i]; to.proto == wire.ProtoPlain {
			to.push(&wakeups, notice, sendqueue.Notice, sendqueue.DropNewest)
		}
	}
	notice.Settle(&r.m.counters.Queues.Budget)
	return int(r.plain)
}

// count returns how many there are at all nodes.
func (r *room) count() Count {
	n := Count{Users: len(r.users), Conns: int(r.shown) + r.foreign.Conns}
	if r.policy.show == ShowCount { // only their numbers are known
		n.Users += r.foreign.Users
	}
	return n
}

// foreignConns notes that a user has more connections at other nodes, or fewer.
func (r *room) foreignConns(user string, more int32) {
	if r.elsewhere == nil {
		r.elsewhere = map[string]int32{}
	}
	if r.elsewhere[user] += more; r.elsewhere[user] <= 0 {
		r.elsewhere = shrink.Delete(r.elsewhere, user, &r.peakElsewhere)
	}
	now := r.users[user]
	now.conns += more
	r.setAttendance(user, now)
}

// roster returns the users in the roster, in no order.
func (r *room) roster() []string {
	users := make([]string, 0, len(r.users))
	for user := range r.users {
		users = append(users, user)
	}
	return users
}

// conns returns the members that are in the roster.
func (r *room) conns() []*Conn {
	conns := make([]*Conn, 0, r.shown)
	for _, m := range r.members {
		if m.visible {
			conns = append(conns, m.conn)
		}
	}
	return conns
}
