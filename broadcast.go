package realtime

import (
	"slices"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/recovery"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/wire"
)

// broadcaster puts messages into the send queues of their receivers.
type broadcaster struct {
	m         *Manager
	slow      sendqueue.Policy // for messages that are not to a room
	audiences audiences
}

func newBroadcaster(m *Manager) *broadcaster {
	b := &broadcaster{m: m, slow: m.opts.Slow.queue()}
	b.audiences.init(m.wheel)
	return b
}

// delivery is the fan-out of one message.
type delivery struct {
	b        *broadcaster
	frames   wire.Frames
	priority sendqueue.Priority
	except   exceptions
	wakeups  sendqueue.Wakeups
	audience *audience // nil if the target names each receiver once
	key      uint64    // for a message to several targets some of which keep it; else 0
	result   Result
}

// exceptions are the receivers that the target excludes.
type exceptions struct {
	conns []*Conn
	gone  []string // ids of connections that have ended, whose sessions others may have resumed
	users []string
}

func (e *exceptions) has(c *Conn) bool {
	return len(e.conns) > 0 && slices.Contains(e.conns, c) ||
		len(e.gone) > 0 && c.named(e.gone) ||
		len(e.users) > 0 && c.UserID() != "" && slices.Contains(e.users, c.UserID())
}

// deliver puts p into the send queues of its receivers. It is the only fan-out of messages, and
// never waits for a peer. It holds the locks of all rooms and users that the target names, so all
// members of a room, and all connections of a user, receive messages in the same order. Kept
// messages have the order of their stream.
func (b *broadcaster) deliver(p *broker.Publication) Result {
	t := &p.Target
	d := delivery{b: b, key: b.m.fetcher.UnionKey(p)}
	d.frames.Message = p.Message
	d.frames.Envelope = wire.Envelope{Room: onlyRoom(t), At: p.Position, Prev: p.Prev}
	if isPrivate(t) {
		d.frames.Envelope.Conn = p.Message.Conn
	}
	one := p.Stream == "" && onlyUser(t)
	if !one || b.m.speakers.Deflating() > 0 { // one user may have no connection: encode it then
		b.m.speakers.Encode(&d.frames)
		b.m.compressor.Compress(&d.frames)
	}
	// After Compress, which takes long: meanwhile a session may be resumed over another connection.
	b.except(&d.except, t)
	switch {
	case p.Message.Ephemeral:
		d.priority = sendqueue.Ephemeral
	case p.Union: // some targets keep it, so no queue may drop it for a later message
		d.priority = sendqueue.Vital
	}
	defer d.wakeups.Flush()
	if d.audience = b.audienceOf(p); d.audience != nil {
		d.audience.mu.Lock()
		defer d.audience.mu.Unlock()
	}
	switch {
	case p.Stream != "":
		d.stream(p)
	case t.All && len(t.Rooms)+len(t.Users)+len(t.Conns) == 0:
		d.all()
	case one:
		d.user(t.Users[0])
	case onlyRoom(t) != "":
		if r := b.m.rooms.lock(t.Rooms[0]); r != nil {
			d.room(r)
			r.mu.Unlock()
		}
	default:
		d.union(t)
	}
	d.frames.Settle(&b.m.counters.Queues.Budget)
	d.result.Matched = d.result.Queued + d.result.Dropped
	b.m.counters.Add(metrics.Matched, d.result.Matched)
	return d.result
}

// except sets the receivers that a target excludes.
func (b *broadcaster) except(e *exceptions, t *broker.Target) {
	e.users = t.ExceptUsers
	for _, id := range t.ExceptConns {
		c, ok := b.m.conns.byID.Get(id)
		if ok {
			e.conns = append(e.conns, c)
		}
		if !ok || c.session.Ended() {
			e.gone = append(e.gone, id)
		}
	}
}

// union delivers to a target with several parts.
func (d *delivery) union(t *broker.Target) {
	users, rooms := d.lock(sorted(t.Users), sorted(t.Rooms))
	if d.audience == nil && (t.All || len(users)+len(rooms)+len(t.Conns) > 1) {
		d.audience = new(audience)
	}
	if t.All {
		d.all()
	}
	for _, u := range users {
		for _, c := range u.conns {
			d.conn(c)
		}
	}
	for _, r := range rooms {
		d.room(r)
	}
	for _, r := range rooms {
		r.mu.Unlock()
	}
	for _, u := range users {
		d.b.m.users.unlock(u)
	}
	for _, id := range t.Conns {
		if c := d.b.m.conns.find(id); c != nil {
			d.conn(c)
		}
	}
}

// lock locks the users and rooms that exist, each in the order of their names, so that two unions
// cannot deadlock.
func (d *delivery) lock(ids, names []string) (users []*user, rooms []*room) {
	for _, id := range ids {
		if u := d.b.m.users.lockLive(id); u != nil {
			users = append(users, u)
		} else {
			d.result.Offline++
		}
	}
	for _, name := range names {
		if r := d.b.m.rooms.lock(name); r != nil {
			rooms = append(rooms, r)
		}
	}
	return users, rooms
}

// all delivers to all connections.
func (d *delivery) all() {
	d.b.m.conns.everyone.order.Lock()
	defer d.b.m.conns.everyone.order.Unlock()
	d.b.m.conns.everyone.walk(d.conn)
}

// user delivers to the connections of a user.
func (d *delivery) user(id string) {
	u := d.b.m.users.lockLive(id)
	if u == nil {
		d.result.Offline++
		return
	}
	for _, c := range u.conns {
		d.conn(c)
	}
	d.b.m.users.unlock(u)
}

// room delivers to the members of a locked room.
func (d *delivery) room(r *room) {
	anyone := d.unrestricted()
	for i := range r.members {
		if m := &r.members[i]; anyone || d.includes(m.conn) {
			d.push(&m.receiver, m.conn, r.policy.Queue)
		}
	}
}

// conn delivers to one connection.
func (d *delivery) conn(c *Conn) {
	if d.includes(c) {
		d.push(&c.receiver, c, d.b.slow)
	}
}

// unrestricted reports whether includes is true for all connections.
func (d *delivery) unrestricted() bool {
	return d.audience == nil && d.key == 0 &&
		len(d.except.conns)+len(d.except.gone)+len(d.except.users) == 0
}

// includes reports whether the target does not exclude c, and c has not received the message from
// another part of the target or by catching up. If it returns true, push or missed must be called:
// until then, c does not receive the message by catching up.
func (d *delivery) includes(c *Conn) bool {
	return !d.except.has(c) && (d.audience == nil || d.audience.firstTime(c.queue)) &&
		(d.key == 0 || c.lagging.FirstTime(d.key))
}

// push puts the message into the send queue of c, whose receiver is r.
func (d *delivery) push(r *receiver, c *Conn, policy sendqueue.Policy) (queued bool) {
	if r.push(&d.wakeups, &d.frames, d.priority, policy) != sendqueue.Queued {
		d.result.Dropped++
		d.missed(c)
		return false
	}
	d.result.Queued++
	if d.key != 0 { // c may read the message again in a stream that it catches up on
		d.b.m.fetcher.Settle(&c.lagging, d.key, c.lagging.Busy())
	}
	return true
}

// missed takes back includes: c did not receive the message. Another part of the target, or
// catching up, may still deliver it.
func (d *delivery) missed(c *Conn) {
	// The queue takes an ephemeral message by no policy of another part, where it would only count
	// as dropped again.
	if d.audience != nil && d.priority != sendqueue.Ephemeral {
		d.audience.forget(c.queue)
	}
	if d.key != 0 {
		d.b.m.fetcher.Settle(&c.lagging, d.key, false)
	}
}

// stream delivers a kept message.
func (d *delivery) stream(p *broker.Publication) {
	if name, ok := broker.StreamRoom(p.Stream); ok {
		d.history(name, p)
	} else if user, ok := broker.StreamUser(p.Stream); ok {
		d.inbox(user, p)
	}
}

// history delivers a message that a room keeps to its members.
func (d *delivery) history(name string, p *broker.Publication) {
	r := d.b.m.rooms.lock(name)
	if r == nil {
		return
	}
	defer r.mu.Unlock()
	if r.topic == nil {
		d.room(r)
		return
	}
	if r.topic.Has(p.Position) {
		return
	}
	if !p.Union {
		d.priority = r.policy.Priority
	}
	anyone := d.unrestricted()
	for i := range r.members {
		m := &r.members[i]
		switch {
		case m.checks:
			d.check(m.sub, m.conn, p, r.policy.Queue)
		case !anyone && !d.includes(m.conn):
			m.sub.Skip(p, !d.except.has(m.conn))
		case !d.push(&m.receiver, m.conn, r.policy.Queue):
			m.sub.Miss(p)
		}
	}
	r.topic.Delivered(p.Position)
}

// inbox delivers a message that an inbox keeps to the connections of its user.
func (d *delivery) inbox(id string, p *broker.Publication) {
	u := d.b.m.users.lock(id)
	if u == nil {
		return
	}
	defer d.b.m.users.unlock(u)
	if f, ok := p.Origin.(*localResult); ok && len(u.conns) > 0 {
		f.online = true
	}
	if u.topic == nil {
		for _, c := range u.conns {
			d.conn(c)
		}
		return
	}
	if u.topic.Has(p.Position) {
		return
	}
	d.priority = u.topic.Policy.Priority
	for _, c := range u.conns {
		d.check(c.inbox, c, p, u.topic.Policy.Queue)
	}
	u.topic.Delivered(p.Position)
}

// check delivers to a connection whose subscription may be lagging or may have a gap.
func (d *delivery) check(
	s *recovery.Subscription, c *Conn, p *broker.Publication, policy sendqueue.Policy,
) {
	switch {
	case s.IsLagging():
		s.Defer(p, d.key, d.audience != nil && d.audience.has(c.queue))
	case !d.includes(c):
		s.Skip(p, !d.except.has(c))
	case !s.Report(p.Prev):
		d.missed(c)
		s.Miss(p)
	case d.push(&c.receiver, c, policy):
		s.Delivered(p.Position)
	default:
		s.Miss(p)
	}
}

// lost makes all live subscriptions of a stream read what they may have missed.
func (b *broadcaster) lost(stream string) {
	if name, ok := broker.StreamRoom(stream); ok {
		if r := b.m.rooms.lock(name); r != nil {
			defer r.mu.Unlock()
			if r.topic == nil {
				return
			}
			r.topic.Lost()
			for i := range r.members {
				r.members[i].sub.Reread()
			}
		}
	} else if user, ok := broker.StreamUser(stream); ok {
		if u := b.m.users.lock(user); u != nil {
			defer b.m.users.unlock(u)
			if u.topic == nil {
				return
			}
			u.topic.Lost()
			for _, c := range u.conns {
				c.inbox.Reread()
			}
		}
	}
}
