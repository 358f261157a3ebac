package realtime

import (
	"github.com/realtime-go/realtime/internal/admission"
	"github.com/realtime-go/realtime/internal/shardmap"
	"github.com/realtime-go/realtime/internal/transport"
	"github.com/realtime-go/realtime/internal/wire"
)

// lists are the connections of this process: each one by its id, the live ones for messages to all,
// and by users and rooms. A change is announced in the critical section in which it happens.
//
// Locks are taken in this order: user, connection, room or all, queue.
type lists struct {
	m        *Manager
	byID     *shardmap.Map[*Conn]
	everyone everyone
}

func newLists(m *Manager) *lists { return &lists{m: m, byID: shardmap.New[*Conn]()} }

// find returns the connection with this id, or nil if there is none or it has ended.
func (l *lists) find(id string) *Conn {
	if c, ok := l.byID.Get(id); ok && !c.session.Ended() {
		return c
	}
	return nil
}

// enter makes a connection live and tells everybody else, if it is its user's first.
// It reports false if the connection has ended; then nobody was told of it.
func (l *lists) enter(c *Conn) bool {
	user := c.UserID()
	if user == "" {
		if !l.settle(c) {
			return false
		}
		l.showRooms(c)
		return true
	}
	notice := l.m.announcer.userNotice(wire.UserJoined, user)
	u := l.m.users.enter(user)
	defer l.m.users.leave(u)
	if err := l.m.revocations.Find(c.began, admission.Subject{User: user}); err != nil {
		code := CloseRefused
		if err.Unsure { // so that its client comes back
			code = CloseInternal
		}
		c.session.End(&CloseError{
			Cause: CauseRefused, Code: code, Reason: "denied", Err: err,
		}, transport.CloseGrace)
	}
	if !l.settle(c) {
		u.pending--
		return false
	}
	if l.m.users.add(u, c) {
		l.m.announcer.tellAll(notice, c)
	}
	l.m.users.makeRoom(u)
	l.showRooms(c)
	if c.inbox != nil {
		c.inbox.Start()
	}
	return true
}

// settle takes a connection into the list of all.
func (l *lists) settle(c *Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session.Ended() {
		return false
	}
	c.phase = live
	l.everyone.add(c)
	l.m.counters.Opened()
	return true
}

// depart takes a connection out of everything, and returns what it was. Whoever is told of it
// finds rosters and statistics without it.
func (l *lists) depart(c *Conn) (was phase) {
	c.mu.Lock()
	was = c.phase
	c.phase = gone
	for c.rooms.newest != nil {
		l.m.joins.leave(c, c.rooms.newest)
	}
	c.mu.Unlock()
	if was == live || was == absent {
		l.takeLeave(c, was)
	}
	return was
}

// takeLeave takes a connection out of the lists, and tells everybody if it was its user's last.
func (l *lists) takeLeave(c *Conn, was phase) {
	user := c.UserID()
	if user == "" {
		l.hide(c, was)
		return
	}
	notice := l.m.announcer.userNotice(wire.UserLeft, user)
	u := l.m.users.enter(user)
	defer l.m.users.leave(u)
	l.hide(c, was)
	last := l.m.users.remove
	if was == absent {
		last = l.m.users.forget
	}
	if last(u, c) {
		l.m.announcer.tellAll(notice, nil)
	}
}

// hide takes a connection out of the list of all, unless it is absent.
func (l *lists) hide(c *Conn, was phase) {
	if was == live {
		l.everyone.remove(c)
		l.m.counters.Closed()
	}
}

// showRooms shows a connection in the rooms that it joined before it was live.
func (l *lists) showRooms(c *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	oldest := c.rooms.newest
	for oldest != nil && oldest.older != nil {
		oldest = oldest.older
	}
	for m := oldest; m != nil; m = m.newer {
		notice := l.m.announcer.roomNotice(wire.RoomJoined, c, m.room)
		r := l.m.rooms.find(m.room)
		if !m.shown {
			r.show(m, notice)
		}
		r.mu.Unlock()
	}
}
