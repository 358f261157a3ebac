package realtime

import (
	"context"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/admission"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/ratelog"
	"github.com/realtime-go/realtime/internal/recovery"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/shardmap"
	"github.com/realtime-go/realtime/internal/transport"
	"github.com/realtime-go/realtime/internal/wire"
)

// index is who is where: every connection by its id, its user and its rooms. It
// announces what changes, in the same critical section in which it changes.
//
// Locks are taken in this order: user, connection, room or all, queue.
type index struct {
	announce Announce
	maxRooms int // for each connection, 0 is without limit
	slow     sendqueue.Policy
	policy   func(room string) recovery.Policy // application code: called without locks
	counters *metrics.Counters
	broker   *recovery.Broker
	fetcher  *recovery.Fetcher
	kept     bool // anything may be kept

	speakers    wire.Speakers
	compressor  *wire.Compressor
	revocations admission.Revocations

	conns    *shardmap.Map[*Conn]
	users    users
	rooms    rooms
	everyone everyone
}

func newIndex(o *Options, t *metrics.Counters, l *ratelog.Logger, b *recovery.Broker, k *recovery.Fetcher) *index {
	x := &index{
		announce: o.Announce, maxRooms: o.MaxRoomsPerConn, slow: o.Slow.queue(),
		policy: o.policy, counters: t, broker: b, fetcher: k, kept: o.keeps(),
		conns: shardmap.New[*Conn](),
		users: users{
			index: shardmap.New[*user](), counters: t, inboxes: newInboxes(o.Inbox, b, k, t, l),
			limit: o.MaxConnsPerUser, replace: o.UserFull == UserFullReplace,
		},
		rooms: rooms{index: shardmap.New[*room](), counters: t, broker: b, fetcher: k},
	}
	x.compressor = wire.NewCompressor(o.CompressFrom, &x.speakers)
	return x
}

// conn returns the connection with this id, or nil if there is none or it has ended.
func (x *index) conn(id string) *Conn {
	if c, ok := x.conns.Get(id); ok && !c.session.Ended() {
		return c
	}
	return nil
}

// openInbox finds out where a connection begins in its user's inbox, if there are any, and returns
// the offset of the newest message in it. Its user stays: a place is reserved for it.
func (x *index) openInbox(ctx context.Context, c *Conn) (top uint64, err error) {
	if c.UserID() == "" || !x.users.inboxes.policy.Keeps() {
		return 0, nil
	}
	u := x.users.enter(c.UserID())
	u.mu.Unlock()
	return x.users.inboxes.open(ctx, c, u.topic)
}

// ack moves the cursor of a connection's inbox.
func (x *index) ack(ctx context.Context, c *Conn, at broker.Position) error {
	return x.users.inboxes.ack(ctx, c, at)
}

// enter makes a connection live and tells everybody else, if it is its user's first.
// It reports false if the connection has ended; then nobody was told of it.
func (x *index) enter(c *Conn) bool {
	user := c.UserID()
	if user == "" {
		if !x.settle(c) {
			return false
		}
		x.showRooms(c)
		return true
	}
	notice := x.userNotice(wire.UserJoined, user)
	u := x.users.enter(user)
	defer x.users.leave(u)
	if err := x.revocations.Find(c.began, admission.Subject{User: user}); err != nil {
		code := CloseRefused
		if err.Unsure { // so that its client comes back
			code = CloseInternal
		}
		c.session.End(&CloseError{
			Cause: CauseRefused, Code: code, Reason: "denied", Err: err,
		}, transport.CloseGrace)
	}
	if !x.settle(c) {
		u.pending--
		return false
	}
	if x.users.add(u, c) {
		x.tellAll(notice, c)
	}
	x.users.makeRoom(u)
	x.showRooms(c)
	if c.inbox != nil {
		c.inbox.Start()
	}
	return true
}

// settle takes a connection into the list of all.
func (x *index) settle(c *Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session.Ended() {
		return false
	}
	c.phase = live
	x.everyone.add(c)
	x.counters.Opened()
	return true
}

// depart takes a connection out of everything, and returns what it was. Whoever is told of it
// finds rosters and statistics without it.
func (x *index) depart(c *Conn) (was phase) {
	c.mu.Lock()
	was = c.phase
	c.phase = gone
	for c.rooms.newest != nil {
		x.leave(c, c.rooms.newest)
	}
	c.mu.Unlock()
	if was == live || was == absent {
		x.takeLeave(c, was)
	}
	return was
}

// takeLeave takes a connection out of the lists, and tells everybody if it was its user's last.
func (x *index) takeLeave(c *Conn, was phase) {
	user := c.UserID()
	if user == "" {
		x.hide(c, was)
		return
	}
	notice := x.userNotice(wire.UserLeft, user)
	u := x.users.enter(user)
	defer x.users.leave(u)
	x.hide(c, was)
	last := x.users.remove
	if was == absent {
		last = x.users.forget
	}
	if last(u, c) {
		x.tellAll(notice, nil)
	}
}

// hide takes a connection out of the list of all, unless it is absent.
func (x *index) hide(c *Conn, was phase) {
	if was == live {
		x.everyone.remove(c)
		x.counters.Closed()
	}
}

// showRooms shows a connection in the rooms that it joined before it was live.
func (x *index) showRooms(c *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	oldest := c.rooms.newest
	for oldest != nil && oldest.older != nil {
		oldest = oldest.older
	}
	for m := oldest; m != nil; m = m.newer {
		notice := x.roomNotice(wire.RoomJoined, c, m.room)
		r := x.rooms.find(m.room)
		if !m.shown {
			r.show(m, notice)
		}
		r.mu.Unlock()
	}
}

// part takes a connection out of a room, and reports false if it was not there. A client that has
// asked for it is answered in the same critical section: what puts it in again is told behind that.
// One that has not, where answered is nil, is told. It returns how many connections were told of
// the one that left.
func (x *index) part(c *Conn, name string, answered func()) (left bool, told int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.rooms.find(name)
	switch {
	case m != nil && answered == nil:
		x.takeOut(c, m)
	case m != nil:
		told = x.leave(c, m)
	}
	if answered != nil {
		answered()
	}
	return m != nil, told
}

// takeOut ends a membership, and tells a client of realtime.v1. c.mu is held, so that a join that
// follows is answered behind it.
func (x *index) takeOut(c *Conn, m *membership) {
	x.leave(c, m)
	if c.proto == wire.ProtoV1 {
		c.tell(wire.Left(m.room))
	}
}

// leave ends a membership, and returns how many connections were told. c.mu is held.
func (x *index) leave(c *Conn, m *membership) (told int) {
	notice := x.roomNotice(wire.RoomLeft, c, m.room)
	c.rooms.remove(m)
	r := x.rooms.find(m.room)
	told = r.remove(m, notice)
	x.rooms.leave(r)
	return told
}

// inspect shows who is in a room, while nobody comes or goes. The list is made without the lock,
// once for all who ask before the roster changes again.
func (x *index) inspect(name string, see func(l *listing)) {
	for tries := 1; ; tries++ {
		r := x.rooms.find(name)
		if r == nil {
			see(newListing([]string{}, Count{}))
			return
		}
		if r.list == nil && tries <= maxTries {
			r.makeList()
			continue
		}
		if r.list == nil { // it changes faster than a list is made
			r.list = newListing(r.listed())
		}
		see(r.list)
		r.mu.Unlock()
		return
	}
}

// tellAll announces something to every connection but one.
func (x *index) tellAll(notice *wire.Frames, except *Conn) {
	if notice == nil {
		return
	}
	n := 0
	x.everyone.order.Lock()
	defer x.everyone.order.Unlock()
	x.everyone.walk(func(c *Conn) {
		if c != except {
			n++
			c.push(notice, sendqueue.Notice, sendqueue.DropNewest)
		}
	})
	notice.Settle(&x.counters.Queues.Budget)
	x.counters.Add(metrics.Matched, n)
}

// userNotice encodes an announcement about a user, or returns nil if they are off.
func (x *index) userNotice(what func(user string) broker.Message, user string) *wire.Frames {
	if x.announce&AnnounceUsers == 0 {
		return nil
	}
	m := what(user)
	f := x.speakers.Encode(&m, wire.Envelope{})
	return &f
}

// roomNotice encodes an announcement about a room, or returns nil if they are off.
func (x *index) roomNotice(what func(user, room string) broker.Message, c *Conn, room string) *wire.Frames {
	if x.announce&AnnounceRooms == 0 {
		return nil
	}
	m := what(c.UserID(), room)
	f := x.speakers.Encode(&m, wire.Envelope{Room: room})
	return &f
}

// policyOf returns the policy of a room: the one of the room that exists, or of a new one.
func (x *index) policyOf(name string) recovery.Policy {
	if r, ok := x.rooms.index.Get(name); ok {
		return r.policy
	}
	return x.policy(name)
}
