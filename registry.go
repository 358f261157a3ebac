package realtime

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/realtime-go/realtime/internal/recovery"
	"github.com/realtime-go/realtime/internal/shardmap"
	"github.com/realtime-go/realtime/internal/shrink"
)

// users is the index of connections by user.
type users struct {
	index   *shardmap.Map[*user]
	m       *Manager
	limit   int  // connections of one user; 0 is without limit
	replace bool // one more ends the oldest
}

func newUsers(m *Manager) *users {
	return &users{
		index: shardmap.New[*user](), m: m, limit: m.opts.MaxConnsPerUser,
		replace: m.opts.UserFull == UserFullReplace,
	}
}

// user is the live connections of one user. It exists while it has any, or while
// one is about to come. Its lock makes a change between none and one, and the
// announcement of that change, one step.
type user struct {
	id    string
	topic *recovery.Topic // of the inbox; nil if there are none

	mu      sync.Mutex
	conns   []*Conn
	absent  []*Conn // that were lost, and may come back
	pending int     // connections that were admitted and are not live yet
	dead    bool
}

// enter locks the user, who is made if there is none.
func (us *users) enter(id string) *user {
	for {
		u := us.index.GetOrPut(id, func() *user { return us.m.inboxes.newUser(id) })
		u.mu.Lock()
		if !u.dead {
			return u
		}
		u.mu.Unlock()
		us.index.CompareAndDelete(id, u)
	}
}

// find locks the user, or returns nil if no connection of his is live.
func (us *users) find(id string) *user {
	u := us.peek(id)
	if u != nil && len(u.conns) == 0 {
		us.leave(u)
		return nil
	}
	return u
}

// peek locks the user, or returns nil if there is none.
func (us *users) peek(id string) *user {
	u, ok := us.index.Get(id)
	if !ok {
		return nil
	}
	u.mu.Lock()
	if u.dead {
		u.mu.Unlock()
		return nil
	}
	return u
}

// leave unlocks a user and forgets him if nothing is left.
func (us *users) leave(u *user) {
	u.dead = len(u.conns)+len(u.absent)+u.pending == 0
	dead := u.dead
	if dead && u.topic != nil {
		u.topic.Close(us.m.broker)
	}
	u.mu.Unlock()
	if dead {
		us.index.CompareAndDelete(u.id, u)
	}
}

// reserve keeps a place for a connection that is about to open, if there is one. Where it is
// to take the place of the oldest it may come as long as not too many others come too.
func (us *users) reserve(id string) bool {
	if id == "" {
		return true
	}
	u := us.enter(id)
	defer us.leave(u)
	taken := u.pending
	if !us.replace {
		taken += len(u.conns)
	}
	if us.limit > 0 && taken >= us.limit {
		return false
	}
	u.pending++
	return true
}

// unreserve gives a place back.
func (us *users) unreserve(id string) {
	if id == "" {
		return
	}
	u := us.enter(id)
	u.pending--
	us.leave(u)
}

// add makes a pending connection live and reports whether it is the user's first.
// u is locked.
func (us *users) add(u *user, c *Conn) (first bool) {
	u.pending--
	c.seat.device = len(u.conns)
	u.conns = append(u.conns, c)
	if len(u.conns)+len(u.absent) > 1 {
		return false
	}
	us.m.counters.Users.Add(1)
	return true
}

// makeRoom ends the user's oldest connections if there are too many. u is locked.
func (us *users) makeRoom(u *user) {
	if us.limit == 0 || !us.replace || len(u.conns) <= us.limit {
		return
	}
	open := slices.DeleteFunc(slices.Clone(u.conns), func(c *Conn) bool { return c.session.Ended() })
	slices.SortFunc(open, func(a, b *Conn) int { return a.session.Opened().Compare(b.session.Opened()) })
	for _, c := range open[:max(0, len(open)-us.limit)] {
		c.session.Expel(CauseReplaced, CloseReplaced, "replaced by a newer connection")
	}
}

// remove takes a live connection out and reports whether it was the user's last.
// u is locked.
func (us *users) remove(u *user, c *Conn) (wasLast bool) {
	u.drop(c)
	return us.left(u)
}

// suspend makes a live connection absent. u is locked.
func (us *users) suspend(u *user, c *Conn) {
	u.drop(c)
	u.absent = append(u.absent, c)
}

// forget takes an absent connection out and reports whether it was the user's last. u is locked.
func (us *users) forget(u *user, c *Conn) (wasLast bool) {
	u.absent = slices.DeleteFunc(u.absent, func(other *Conn) bool { return other == c })
	return us.left(u)
}

// left notes, if no connection is left, that the user has left.
func (us *users) left(u *user) bool {
	if len(u.conns)+len(u.absent) > 0 {
		return false
	}
	us.m.counters.Users.Add(-1)
	return true
}

// away returns a user's absent connections.
func (us *users) away(id string) []*Conn {
	u := us.peek(id)
	if u == nil {
		return nil
	}
	defer us.leave(u)
	return slices.Clone(u.absent)
}

// drop takes a connection out of the live ones.
func (u *user) drop(c *Conn) {
	last := len(u.conns) - 1
	u.conns[c.seat.device] = u.conns[last]
	u.conns[c.seat.device].seat.device = c.seat.device
	u.conns = shrink.Pop(u.conns)
	if c.inbox != nil {
		c.inbox.Leave()
	}
}

// numSegments cuts the list of all connections so that one who joins never waits
// for a walk over all of it.
const numSegments = 64

// everyone is the list of live connections, for messages to all.
type everyone struct {
	order    sync.Mutex    // held by those who send to all: one order for everybody
	turn     atomic.Uint64 // spreads connections over the segments
	segments [numSegments]segment
}

type segment struct {
	mu    sync.Mutex
	conns []*Conn
}

func (e *everyone) add(c *Conn) {
	c.seat.segment = uint8(e.turn.Add(1) % numSegments)
	s := &e.segments[c.seat.segment]
	s.mu.Lock()
	defer s.mu.Unlock()
	c.seat.index = len(s.conns)
	s.conns = append(s.conns, c)
}

func (e *everyone) remove(c *Conn) {
	s := &e.segments[c.seat.segment]
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.conns) - 1
	s.conns[c.seat.index] = s.conns[last]
	s.conns[c.seat.index].seat.index = c.seat.index
	s.conns = shrink.Pop(s.conns)
}

// walk calls f for every connection, with one segment locked.
func (e *everyone) walk(f func(*Conn)) {
	for i := range e.segments {
		s := &e.segments[i]
		s.mu.Lock()
		for _, c := range s.conns {
			f(c)
		}
		s.mu.Unlock()
	}
}

// snapshot returns all connections.
func (e *everyone) snapshot() []*Conn {
	var all []*Conn
	e.walk(func(c *Conn) { all = append(all, c) })
	return all
}
