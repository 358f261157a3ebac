package realtime

import (
	"fmt"
	"slices"

	"github.com/realtime-go/realtime/internal/engine"
)

// index is who is where: every connection by its id, its user and its rooms. It
// announces what changes, in the same critical section in which it changes.
//
// Locks are taken in this order: user, connection, room or all, queue.
type index struct {
	announce Announce
	maxRooms int // for each connection, 0 is without limit
	slow     engine.Policy
	policy   func(room string) engine.Policy // application code: called without locks
	tally    *tally

	languages languages
	press     press
	denials   denials

	conns    *shards[*Conn]
	users    users
	rooms    rooms
	everyone everyone
}

func newIndex(o *Options, t *tally) *index {
	return &index{
		announce: o.Announce, maxRooms: o.MaxRoomsPerConn, slow: o.Slow.engine(),
		policy: o.roomPolicy, tally: t,
		press: press{from: o.CompressFrom, tally: t},
		conns: newShards[*Conn](),
		users: users{
			index: newShards[*user](), tally: t,
			limit: o.MaxConnsPerUser, replace: o.UserFull == UserFullReplace,
		},
		rooms: rooms{index: newShards[*room](), tally: t},
	}
}

// conn returns the connection with this id, or nil if there is none or it has ended.
func (x *index) conn(id string) *Conn {
	if c, ok := x.conns.get(id); ok && !c.ended() {
		return c
	}
	return nil
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
	notice := x.userNotice(userJoined, user)
	u := x.users.enter(user)
	defer x.users.leave(u)
	if err := x.denials.check(c.began, ban{user: user}); err != nil {
		c.finish(&CloseError{Cause: CauseRefused, Code: CloseRefused, Reason: "denied", Err: err}, closeGrace)
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
	return true
}

// settle takes a connection into the list of all.
func (x *index) settle(c *Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended() {
		return false
	}
	c.phase = live
	x.everyone.add(c)
	x.tally.opened()
	return true
}

// depart takes a connection out of everything. Whoever is told of it finds rosters
// and statistics without it.
func (x *index) depart(c *Conn) {
	c.mu.Lock()
	was := c.phase
	c.phase = gone
	for c.newest != nil {
		x.leave(c, c.newest)
	}
	c.mu.Unlock()
	if was != live {
		return
	}
	user := c.UserID()
	if user == "" {
		x.everyone.remove(c)
		x.tally.gone()
		return
	}
	notice := x.userNotice(userLeft, user)
	u := x.users.enter(user)
	defer x.users.leave(u)
	x.everyone.remove(c)
	x.tally.gone()
	if x.users.remove(u, c) {
		x.tellAll(notice, nil)
	}
}

// join puts a connection into a room, and reports false if it was there. The
// announcement of one that is not live yet waits for enter. began is when it was decided.
func (x *index) join(c *Conn, name string, began decision) (bool, error) {
	if err := ValidName(name); err != nil {
		return false, fmt.Errorf("room: %w", err)
	}
	policy := x.policy(name)
	c.mu.Lock()
	defer c.mu.Unlock()
	return x.joinLocked(c, name, policy, began)
}

// joinAsked is join for a client that has asked for it. The answer goes out in the same critical
// section: what takes the client out again is told behind it. A nil answer is none.
func (x *index) joinAsked(c *Conn, name string, began decision, done *engine.Frame) error {
	policy := x.policy(name)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := x.joinLocked(c, name, policy, began); err != nil {
		return err
	}
	c.membership(name).asked = true
	if c.restRoom == name { // it is not the REST interface's any more
		c.restRoom = ""
	}
	if done != nil {
		answer(c, x.tally, done)
	}
	return nil
}

// joinLocked is join of a valid name while c.mu is held.
func (x *index) joinLocked(c *Conn, name string, policy engine.Policy, began decision) (bool, error) {
	switch {
	case c.phase == gone || c.ended():
		return false, ErrClosed
	case c.membership(name) != nil:
		return false, nil
	case x.maxRooms > 0 && c.in >= x.maxRooms:
		return false, ErrTooManyRooms
	}
	notice := x.roomNotice(roomJoined, c, name)
	r := x.rooms.enter(name, policy)
	defer x.rooms.leave(r) // also one that was made for somebody who is denied
	if err := x.denials.check(began, ban{c.UserID(), name}); err != nil {
		return false, err
	}
	m := &membership{conn: c, room: name}
	c.joined(m)
	r.add(m)
	if c.phase == live {
		r.show(m, notice)
	}
	return true, nil
}

// showRooms shows a connection in the rooms that it joined before it was live.
func (x *index) showRooms(c *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	oldest := c.newest
	for oldest != nil && oldest.older != nil {
		oldest = oldest.older
	}
	for m := oldest; m != nil; m = m.newer {
		notice := x.roomNotice(roomJoined, c, m.room)
		r := x.rooms.find(m.room)
		if !m.shown {
			r.show(m, notice)
		}
		r.mu.Unlock()
	}
}

// part takes a connection out of a room, and reports false if it was not there. Who has not
// asked for it is told.
func (x *index) part(c *Conn, name string, asked bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.membership(name)
	if m == nil {
		return false
	}
	if asked {
		x.leave(c, m)
	} else {
		x.takeOut(c, m)
	}
	return true
}

// takeOut ends a membership, and tells a client of realtime.v1. c.mu is held, so that a join that
// follows is answered behind it.
func (x *index) takeOut(c *Conn, m *membership) {
	x.leave(c, m)
	if c.proto == protoV1 {
		tell(c, x.tally, left(m.room))
	}
}

// leave ends a membership. c.mu is held.
func (x *index) leave(c *Conn, m *membership) {
	notice := x.roomNotice(roomLeft, c, m.room)
	c.left(m)
	r := x.rooms.find(m.room)
	r.remove(m, notice)
	x.rooms.leave(r)
}

// maxListed is up to how many users a room's are listed for a client: beyond, it gets the
// numbers.
const maxListed = 1000

// inspect shows who is in a room, in order, while nobody comes or goes. Users are nil if
// there are too many.
func (x *index) inspect(name string, see func(users []string, n Count)) {
	r := x.rooms.find(name)
	if r == nil {
		see([]string{}, Count{})
		return
	}
	defer r.mu.Unlock()
	var users []string
	if len(r.users) <= maxListed {
		users = r.roster()
		slices.Sort(users)
	}
	see(users, r.count())
}

// move is the join of the REST interface, where a plain connection has one room: it
// leaves the room that the last move put it into and joins the new one, as one step.
func (x *index) move(c *Conn, name string, began decision) error {
	if err := ValidName(name); err != nil {
		return fmt.Errorf("room: %w", err)
	}
	policy := x.policy(name)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == gone || c.ended() {
		return ErrClosed
	}
	if c.restRoom == name {
		return nil
	}
	if err := x.denials.check(began, ban{c.UserID(), name}); err != nil {
		return err // and it stays where it is
	}
	if m := c.membership(c.restRoom); m != nil {
		x.takeOut(c, m)
	}
	joined, err := x.joinLocked(c, name, policy, began)
	if joined {
		c.restRoom = name
	}
	return err
}

// retreat is the leave of the REST interface. Without a REST room it does nothing.
func (x *index) retreat(c *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.membership(c.restRoom); m != nil {
		x.takeOut(c, m)
	}
}

// tellAll announces something to every connection but one.
func (x *index) tellAll(notice *frames, except *Conn) {
	if notice == nil {
		return
	}
	n := 0
	x.everyone.order.Lock()
	defer x.everyone.order.Unlock()
	x.everyone.walk(func(c *Conn) {
		if c != except {
			n++
			c.push(notice, engine.Notice, engine.DropNewest)
		}
	})
	notice.settle(x.tally)
	x.tally.add(cMatched, n)
}

// userNotice encodes an announcement about a user, or returns nil if they are off.
func (x *index) userNotice(what func(user string) Message, user string) *frames {
	if x.announce&AnnounceUsers == 0 {
		return nil
	}
	m := what(user)
	f := x.languages.encode(&m, "")
	return &f
}

// roomNotice encodes an announcement about a room, or returns nil if they are off.
func (x *index) roomNotice(what func(user, room string) Message, c *Conn, room string) *frames {
	if x.announce&AnnounceRooms == 0 {
		return nil
	}
	m := what(c.UserID(), room)
	f := x.languages.encode(&m, room)
	return &f
}
