package realtime

import (
	"cmp"
	"slices"

	"github.com/realtime-go/realtime/internal/wire"
)

// absentBytes is about what an absent connection takes, and placeBytes what each of its rooms does.
const (
	absentBytes = 2 << 10
	placeBytes  = 256
)

// suspend makes a live connection that has ended absent: nothing is given to it any more, and
// everybody still sees it. It returns what the connection was.
func (a *absences) suspend(c *Conn) (was phase) {
	var u *user
	if id := c.UserID(); id != "" {
		u = a.m.users.enter(id)
		defer a.m.users.leave(u)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if was = c.phase; was != live {
		return was
	}
	c.phase = absent
	c.away = absentBytes + placeBytes*int64(c.rooms.n)
	for m := c.rooms.newest; m != nil; m = m.older {
		r := a.m.rooms.find(m.room)
		r.suspend(m)
		r.mu.Unlock()
	}
	a.m.conns.everyone.remove(c)
	a.m.counters.Closed()
	if u != nil {
		a.m.users.suspend(u, c)
	}
	return was
}

// adopt gives a connection the rooms of an absent one of the same user, which it takes the
// place of: nobody is told. It leaves those that may says no to, or for which there is no place.
// It reports false if the other is not absent any more.
func (a *absences) adopt(c, old *Conn, may func(room string) bool) (ok bool) {
	if id := c.UserID(); id != "" {
		u := a.m.users.enter(id)
		defer a.m.users.leave(u)
		notice := a.m.announcer.userNotice(wire.UserLeft, id)
		defer func() {
			if ok && a.m.users.forget(u, old) { // c has departed already
				a.m.announcer.tellAll(notice, nil)
			}
		}()
	}
	var left estate
	if left, ok = old.vacate(); ok {
		c.follow(old)
		a.settleIn(c, &left, may)
	}
	return ok
}

// estate is what a connection that is no more leaves to the one that takes its place.
type estate struct {
	places []*membership // in order of joining
	rest   string        // its REST room
	guest  string        // what told it from other anonymous ones
}

// settleIn gives a connection what another has left.
func (a *absences) settleIn(c *Conn, left *estate, may func(room string) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.guest = cmp.Or(left.guest, c.guest)
	for _, m := range left.places {
		notice := a.m.announcer.roomNotice(wire.RoomLeft, m.conn, m.room)
		r := a.m.rooms.find(m.room)
		if a.free(c, m.room) && may(m.room) {
			heir := &membership{conn: c, room: m.room, asked: m.asked, absent: c.phase == absent}
			c.rooms.add(heir)
			r.inherit(m, heir)
			a.m.joins.given(heir, r)
		} else {
			r.remove(m, notice)
		}
		a.m.rooms.leave(r)
	}
	if c.rooms.apiRoom == "" && c.rooms.find(left.rest) != nil {
		c.rooms.apiRoom = left.rest
	}
}

// free reports whether a connection may take a place in a room, also one that has ended meanwhile:
// then it is cleaned up after, or kept for the next one. c.mu is held.
func (a *absences) free(c *Conn, room string) bool {
	return c.phase != gone && c.rooms.find(room) == nil && (a.m.opts.MaxRoomsPerConn == 0 || c.rooms.n < a.m.opts.MaxRoomsPerConn)
}

// vacate takes what it leaves from an absent connection, which is gone then.
func (c *Conn) vacate() (left estate, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != absent {
		return estate{}, false
	}
	c.phase = gone
	left = estate{rest: c.rooms.apiRoom, guest: c.guest}
	for m := c.rooms.newest; m != nil; m = m.older {
		left.places = append(left.places, m)
	}
	slices.Reverse(left.places)
	c.rooms = memberships{}
	return left, true
}
