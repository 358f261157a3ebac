package realtime

import (
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/realtime-go/realtime/internal/admission"
	"github.com/realtime-go/realtime/internal/recovery"
	"github.com/realtime-go/realtime/internal/shardmap"
	"github.com/realtime-go/realtime/internal/shrink"
)

// User is a handle on a user, connected or not: a small value, made by
// [Manager.User]. Its methods return ErrInvalidName for a user who cannot exist, see [ValidName]: also
// those of the zero User.
type User struct {
	m  *Manager
	id string
}

// User returns the handle on a user.
func (m *Manager) User(id string) User { return User{m, id} }

// ID returns the user's id.
func (u User) ID() string { return u.id }

// Count returns how many connections the user has. It does not block; ctx and the
// error, which is nil, are for brokers that know the users of other processes.
func (u User) Count(context.Context) (int, error) {
	if err := checkUser(u.id); err != nil {
		return 0, err
	}
	return len(u.conns()), nil
}

// LocalConns returns the user's connections in this process, as of the call.
func (u User) LocalConns() iter.Seq[*Conn] { return slices.Values(u.conns()) }

// Disconnect closes all open connections of the user, as [Conn.Close] does, and returns
// how many. A connection that is about to open, in Authenticate or OnConnect, does not:
// the one is answered with 403, the other closed with code 4403. Who asks again after that
// is let in if Authenticate lets him. So first make Authenticate say no, then disconnect; or
// see Deny. It does not wait for the goodbyes; nothing that is sent from then on reaches the
// connections.
// ctx is for brokers to come. It returns ErrInvalidCloseCode for a code that may not be sent.
func (u User) Disconnect(_ context.Context, code CloseCode, reason string) (int, error) {
	if err := checkUser(u.id); err != nil {
		return 0, err
	}
	if !code.Sendable() {
		return 0, ErrInvalidCloseCode
	}
	u.m.revocations.Revoke(admission.Subject{User: u.id})
	n := 0
	for _, c := range u.conns() {
		if c.Close(code, reason) == nil {
			n++
		} else {
			u.m.detached.end(c) // it was lost, and is about to become absent
		}
	}
	for _, c := range u.m.users.detachedOf(u.id) {
		u.m.detached.end(c)
	}
	return n, nil
}

// Deny keeps the user out for some time, as Disconnect with code 4403 does for the moment,
// and returns how many connections that closed. Connections are refused with 403 and
// Retry-After, or with ErrDenied by Register. Zero or less lifts it. It holds in this process,
// until that ends.
func (u User) Deny(ctx context.Context, how time.Duration) (int, error) {
	if err := checkUser(u.id); err != nil {
		return 0, err
	}
	u.m.revocations.Deny(admission.Subject{User: u.id}, how)
	if how <= 0 {
		return 0, nil
	}
	return u.Disconnect(ctx, CloseRefused, "denied")
}

func (u User) conns() []*Conn {
	if checkUser(u.id) != nil {
		return nil
	}
	found := u.m.users.find(u.id)
	if found == nil {
		return nil
	}
	defer u.m.users.leave(found)
	return slices.Clone(found.conns)
}

// users is the index of connections by user.
type users struct {
	index   *shardmap.Map[*user]
	m       *Manager
	limit   int  // connections of one user; 0 is without limit
	replace bool // one more ends the oldest
}

func newUsers(m *Manager) *users {
	return &users{
		index: shardmap.New[*user](), m: m, limit: m.opts.Limits.ConnsPerUser,
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
	c.at.device = len(u.conns)
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
	return us.noteIfGone(u)
}

// detach makes a live connection absent. u is locked.
func (us *users) detach(u *user, c *Conn) {
	u.drop(c)
	u.absent = append(u.absent, c)
}

// forget takes an absent connection out and reports whether it was the user's last. u is locked.
func (us *users) forget(u *user, c *Conn) (wasLast bool) {
	u.absent = slices.DeleteFunc(u.absent, func(other *Conn) bool { return other == c })
	return us.noteIfGone(u)
}

// noteIfGone notes, if no connection is noteIfGone, that the user has noteIfGone.
func (us *users) noteIfGone(u *user) bool {
	if len(u.conns)+len(u.absent) > 0 {
		return false
	}
	us.m.counters.Users.Add(-1)
	return true
}

// detachedOf returns a user's absent connections.
func (us *users) detachedOf(id string) []*Conn {
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
	u.conns[c.at.device] = u.conns[last]
	u.conns[c.at.device].at.device = c.at.device
	u.conns = shrink.Pop(u.conns)
	if c.inbox != nil {
		c.inbox.Leave()
	}
}
