package realtime

import (
	"slices"
	"sync"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/recovery"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/wire"
)

// broadcaster gives messages to the queues of their receivers.
type broadcaster struct {
	m          *Manager
	slow       sendqueue.Policy // of messages that are not for a room
	compressor *wire.Compressor
}

func newBroadcaster(m *Manager) *broadcaster {
	return &broadcaster{
		m: m, slow: m.opts.Slow.queue(), compressor: wire.NewCompressor(m.opts.CompressFrom, &m.speakers),
	}
}

// delivery is one message on its way to its receivers.
type delivery struct {
	b        *broadcaster
	frames   wire.Frames
	class    sendqueue.Priority
	except   exceptions
	audience *dedupSet // where the target may name a receiver twice
	key      uint64    // of a message to several targets, some of which keep it
	result   Result
}

// exceptions are the receivers that are left out.
type exceptions struct {
	conns []*Conn
	gone  []string // ids of connections that others may have the place of
	users []string
}

func (e *exceptions) has(c *Conn) bool {
	return len(e.conns) > 0 && slices.Contains(e.conns, c) ||
		len(e.gone) > 0 && c.named(e.gone) ||
		len(e.users) > 0 && c.UserID() != "" && slices.Contains(e.users, c.UserID())
}

// deliver is the only fan-out of messages: it gives p to its receivers' queues. It
// never waits for a peer. Each room's members, and each user's connections, get
// messages in one order, because it holds the lock of every room and user that the
// target names while it walks. What is kept comes in the order of its stream.
func (b *broadcaster) deliver(p *broker.Publication) Result {
	t := &p.Target
	at := wire.Envelope{Room: onlyRoom(t), At: p.Position, Prev: p.Prev}
	d := delivery{
		b: b, frames: b.m.speakers.Encode(&p.Message, at), result: Result{Local: true},
		key: b.m.fetcher.Key(p),
	}
	b.m.counters.Add(metrics.Compressed, b.compressor.Compress(&d.frames))
	for _, id := range t.ExceptConns {
		if c, ok := b.m.conns.byID.Get(id); ok { // also one that is about to go
			d.except.conns = append(d.except.conns, c)
			if !c.session.Ended() {
				continue
			}
		}
		d.except.gone = append(d.except.gone, id)
	}
	d.except.users = t.ExceptUsers
	if p.Union { // where some of it is kept until it was taken, no queue may drop it for another
		d.class = sendqueue.Vital
	}
	if f, ok := p.Origin.(*origin); ok && f.audience != nil {
		d.audience = f.audience
		d.audience.mu.Lock()
		defer d.audience.mu.Unlock()
	}
	switch {
	case p.Stream != "":
		d.stream(p)
	case t.All && len(t.Rooms)+len(t.Users)+len(t.Conns) == 0:
		d.all()
	case !t.All && len(t.Rooms) == 1 && len(t.Users)+len(t.Conns) == 0:
		if r := b.m.rooms.find(t.Rooms[0]); r != nil {
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

// union delivers to a target of several parts.
func (d *delivery) union(t *broker.Target) {
	users, rooms := d.lock(sorted(t.Users), sorted(t.Rooms))
	if d.audience == nil && (t.All || len(users)+len(rooms)+len(t.Conns) > 1) {
		d.audience = new(dedupSet)
	}
	if t.All {
		d.all()
	}
	for _, u := range users {
		for _, c := range u.conns {
			d.give(c)
		}
	}
	for _, r := range rooms {
		d.room(r)
	}
	for _, r := range rooms {
		r.mu.Unlock()
	}
	for _, u := range users {
		d.b.m.users.leave(u)
	}
	for _, id := range t.Conns {
		if c := d.b.m.conns.find(id); c != nil {
			d.give(c)
		}
	}
}

// lock locks users and rooms, each in the order of their names, so that two unions
// never wait for each other.
func (d *delivery) lock(ids, names []string) (users []*user, rooms []*room) {
	for _, id := range ids {
		if u := d.b.m.users.find(id); u != nil {
			users = append(users, u)
		} else {
			d.result.Offline++
		}
	}
	for _, name := range names {
		if r := d.b.m.rooms.find(name); r != nil {
			rooms = append(rooms, r)
		}
	}
	return users, rooms
}

func (d *delivery) all() {
	d.b.m.conns.everyone.order.Lock()
	defer d.b.m.conns.everyone.order.Unlock()
	d.b.m.conns.everyone.walk(d.give)
}

// room gives the message to the members of a locked room.
func (d *delivery) room(r *room) {
	anyone := d.unrestricted()
	for i := range r.members {
		if m := &r.members[i]; anyone || d.includes(m.conn) {
			d.push(&m.receiver, m.conn, r.policy.Queue)
		}
	}
}

func (d *delivery) give(c *Conn) {
	if d.includes(c) {
		d.push(&c.receiver, c, d.b.slow)
	}
}

// unrestricted reports whether nobody is left out, and nobody named twice.
func (d *delivery) unrestricted() bool {
	return d.audience == nil && d.key == 0 &&
		len(d.except.conns)+len(d.except.gone)+len(d.except.users) == 0
}

// includes reports whether c is not left out and has not had the message, from another part or where
// it has caught up. If so, push or missed has to be called: until then c does not get the message
// where it catches up.
func (d *delivery) includes(c *Conn) bool {
	return !d.except.has(c) && (d.audience == nil || d.audience.firstTime(c.queue)) &&
		(d.key == 0 || c.lagging.FirstTime(d.key))
}

func (d *delivery) push(r *receiver, c *Conn, policy sendqueue.Policy) (queued bool) {
	if queued = r.push(&d.frames, d.class, policy) == sendqueue.Queued; !queued {
		d.result.Dropped++
		d.missed(c)
		return false
	}
	d.result.Queued++
	if d.key != 0 { // it may come across it in a stream that it catches up on
		d.b.m.fetcher.Settle(&c.lagging, d.key, c.lagging.Busy())
	}
	return true
}

// missed notes that a connection has not got the message after all: it may have better luck with
// another part, and must not be taken for one that has it when it catches up.
func (d *delivery) missed(c *Conn) {
	if d.audience != nil {
		d.audience.forget(c.queue)
	}
	if d.key != 0 {
		d.b.m.fetcher.Settle(&c.lagging, d.key, false)
	}
}

// stream delivers what is kept.
func (d *delivery) stream(p *broker.Publication) {
	if name, ok := broker.StreamRoom(p.Stream); ok {
		d.history(name, p)
	} else if user, ok := broker.StreamUser(p.Stream); ok {
		d.inbox(user, p)
	}
}

// history delivers what a room keeps to its members.
func (d *delivery) history(name string, p *broker.Publication) {
	r := d.b.m.rooms.find(name)
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
		d.class = r.policy.Priority
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

// inbox delivers what is kept for a user to his connections.
func (d *delivery) inbox(id string, p *broker.Publication) {
	u := d.b.m.users.peek(id)
	if u == nil {
		return
	}
	defer d.b.m.users.leave(u)
	if f, ok := p.Origin.(*origin); ok && len(u.conns) > 0 {
		f.online = true
	}
	if u.topic == nil {
		for _, c := range u.conns {
			d.give(c)
		}
		return
	}
	if u.topic.Has(p.Position) {
		return
	}
	d.class = u.topic.Policy.Priority
	for _, c := range u.conns {
		d.check(c.inbox, c, p, u.topic.Policy.Queue)
	}
	u.topic.Delivered(p.Position)
}

// check delivers to a subscription that has to be asked.
func (d *delivery) check(s *recovery.Subscription, c *Conn, p *broker.Publication, policy sendqueue.Policy) {
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

// lost makes every connection that gets a stream live read what may be missing.
func (b *broadcaster) lost(stream string) {
	if name, ok := broker.StreamRoom(stream); ok {
		if r := b.m.rooms.find(name); r != nil {
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
		if u := b.m.users.peek(user); u != nil {
			defer b.m.users.leave(u)
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

// announcer tells connections that users come and go.
type announcer struct{ m *Manager }

// rooms reports whether it tells who comes and goes in rooms.
func (a *announcer) rooms() bool { return a.m.opts.Announce&AnnounceRooms != 0 }

// tellAll announces something to every connection but one.
func (a *announcer) tellAll(notice *wire.Frames, except *Conn) {
	if notice == nil {
		return
	}
	n := 0
	a.m.conns.everyone.order.Lock()
	defer a.m.conns.everyone.order.Unlock()
	a.m.conns.everyone.walk(func(c *Conn) {
		if c != except {
			n++
			c.push(notice, sendqueue.Notice, sendqueue.DropNewest)
		}
	})
	notice.Settle(&a.m.counters.Queues.Budget)
	a.m.counters.Add(metrics.Matched, n)
}

// userNotice encodes an announcement about a user, or returns nil if they are off.
func (a *announcer) userNotice(what func(user string) broker.Message, user string) *wire.Frames {
	if a.m.opts.Announce&AnnounceUsers == 0 {
		return nil
	}
	m := what(user)
	f := a.m.speakers.Encode(&m, wire.Envelope{})
	return &f
}

// roomNotice encodes an announcement about a room, or returns nil if they are off.
func (a *announcer) roomNotice(what func(user, room string) broker.Message, c *Conn, room string) *wire.Frames {
	if !a.rooms() {
		return nil
	}
	m := what(c.UserID(), room)
	f := a.m.speakers.Encode(&m, wire.Envelope{Room: room})
	return &f
}

// dedupSet are the connections that have had a message which may be meant for them more than once.
type dedupSet struct {
	mu    sync.Mutex // of whoever delivers a part of the message
	links map[*sendqueue.Queue]struct{}
}

// has reports whether the connection has had it.
func (a *dedupSet) has(l *sendqueue.Queue) bool {
	_, had := a.links[l]
	return had
}

// forget takes back admit: the connection has not had it.
func (a *dedupSet) forget(l *sendqueue.Queue) { delete(a.links, l) }

// firstTime reports whether it is new to the connection, which is to get it now.
func (a *dedupSet) firstTime(l *sendqueue.Queue) bool {
	if _, twice := a.links[l]; twice {
		return false
	}
	if a.links == nil {
		a.links = make(map[*sendqueue.Queue]struct{})
	}
	a.links[l] = struct{}{}
	return true
}
