package realtime

import (
	"slices"

	"github.com/realtime-go/realtime/internal/engine"
)

// delivery is one message on its way to its receivers.
type delivery struct {
	x      *index
	frames frames
	except exceptions
	seen   map[*Conn]struct{} // receivers so far, where the target may name one twice
	result Result
}

// exceptions are the receivers that are left out.
type exceptions struct {
	conns []*Conn
	users []string
}

func (e *exceptions) has(c *Conn) bool {
	return len(e.conns) > 0 && slices.Contains(e.conns, c) ||
		len(e.users) > 0 && c.UserID() != "" && slices.Contains(e.users, c.UserID())
}

// deliver is the only fan-out of messages: it gives p to its receivers' queues. It
// never waits for a peer. Each room's members, and each user's connections, get
// messages in one order, because it holds the lock of every room and user that the
// target names while it walks.
func (x *index) deliver(p *Publication) Result {
	t := &p.Target
	d := delivery{x: x, frames: x.languages.encode(&p.Message, t.room()), result: Result{Local: true}}
	x.press.squeeze(&d.frames)
	for _, id := range t.ExceptConns {
		if c, ok := x.conns.get(id); ok { // also one that is about to go
			d.except.conns = append(d.except.conns, c)
		}
	}
	d.except.users = t.ExceptUsers
	switch {
	case t.All && len(t.Rooms)+len(t.Users)+len(t.Conns) == 0:
		d.all()
	case !t.All && len(t.Rooms) == 1 && len(t.Users)+len(t.Conns) == 0:
		if r := x.rooms.find(t.Rooms[0]); r != nil {
			d.room(r)
			r.mu.Unlock()
		}
	default:
		d.union(t)
	}
	d.frames.settle(x.tally)
	d.result.Matched = d.result.Queued + d.result.Dropped
	x.tally.add(cMatched, d.result.Matched)
	return d.result
}

// union delivers to a target of several parts.
func (d *delivery) union(t *Target) {
	users, rooms := d.lock(sorted(t.Users), sorted(t.Rooms))
	if t.All || len(users)+len(rooms)+len(t.Conns) > 1 {
		d.seen = make(map[*Conn]struct{})
	}
	if t.All {
		d.all()
	}
	for _, u := range users {
		for _, c := range u.conns {
			d.give(c, d.x.slow)
		}
	}
	for _, r := range rooms {
		d.room(r)
	}
	for _, r := range rooms {
		r.mu.Unlock()
	}
	for _, u := range users {
		d.x.users.leave(u)
	}
	for _, id := range t.Conns {
		if c := d.x.conn(id); c != nil {
			d.give(c, d.x.slow)
		}
	}
}

// lock locks users and rooms, each in the order of their names, so that two unions
// never wait for each other.
func (d *delivery) lock(ids, names []string) (users []*user, rooms []*room) {
	for _, id := range ids {
		if u := d.x.users.find(id); u != nil {
			users = append(users, u)
		} else {
			d.result.Offline++
		}
	}
	for _, name := range names {
		if r := d.x.rooms.find(name); r != nil {
			rooms = append(rooms, r)
		}
	}
	return users, rooms
}

func (d *delivery) all() {
	d.x.everyone.order.Lock()
	defer d.x.everyone.order.Unlock()
	d.x.everyone.walk(func(c *Conn) { d.give(c, d.x.slow) })
}

// room gives the message to the members of a locked room.
func (d *delivery) room(r *room) {
	anyone := d.anyone()
	for i := range r.members {
		if m := &r.members[i]; anyone || d.wants(m.conn) {
			d.push(&m.receiver, r.policy)
		}
	}
}

func (d *delivery) give(c *Conn, policy engine.Policy) {
	if d.wants(c) {
		d.push(&c.receiver, policy)
	}
}

// anyone reports whether nobody is left out, and nobody named twice.
func (d *delivery) anyone() bool {
	return d.seen == nil && len(d.except.conns)+len(d.except.users) == 0
}

// wants reports whether c is not left out and has not had the message.
func (d *delivery) wants(c *Conn) bool {
	if d.except.has(c) {
		return false
	}
	if d.seen != nil {
		if _, twice := d.seen[c]; twice {
			return false
		}
		d.seen[c] = struct{}{}
	}
	return true
}

func (d *delivery) push(r *receiver, policy engine.Policy) {
	if r.push(&d.frames, engine.Message, policy) == engine.Queued {
		d.result.Queued++
	} else {
		d.result.Dropped++
	}
}
