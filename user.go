package realtime

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/realtime-go/realtime/internal/admission"
	"github.com/realtime-go/realtime/internal/cluster"
	"github.com/realtime-go/realtime/internal/recovery"
	"github.com/realtime-go/realtime/internal/shardmap"
	"github.com/realtime-go/realtime/internal/shrink"
)

// User is a handle on a user, who may be connected or not. It is a small value that [Manager.User]
// returns. All methods are safe for concurrent use. Those that return an error return
// ErrInvalidName if the id breaks the rules of [ValidName] or is "all" or "room", which are
// reserved; the id of the zero User breaks them.
type User struct {
	m  *Manager
	id string
}

// User returns the handle on the user with this id.
func (m *Manager) User(id string) User { return User{m, id} }

// ID returns the user's id.
func (u User) ID() string { return u.id }

// Count returns how many connections the user has, in all processes. Detached sessions do not count.
// With a broker that connects several processes, it waits for their answers, for a quarter of a
// second at most: if one does not answer, Count returns the number without its connections and an
// error that matches ErrUnavailable. Otherwise it does not block.
func (u User) Count(ctx context.Context) (int, error) {
	if err := checkUser(u.id); err != nil {
		return 0, err
	}
	n := len(u.conns())
	answers, err := u.m.node.AskUser(ctx, u.id, askConns, &ask{User: u.id})
	return n + sum(answers), err
}

// LocalConns returns the user's connections in this process, as of the call. It returns none if the
// id is invalid.
func (u User) LocalConns() iter.Seq[*Conn] { return slices.Values(u.conns()) }

// Join puts all connections of the user into a room, with [Conn.Join], in all processes, and returns
// how many were not in it before. It includes connections for which OnConnect is running. A
// connection that opens later is not put into the room, so OnConnect must do that: an application
// that stores the members of its rooms stores the new one first, and then calls Join. A detached
// session, see Timeouts.Resume, is not put into the room either: the connection that resumes it
// opens later.
//
// If a connection cannot join, for example because of ErrTooManyRooms, Join goes on with the others
// and returns the first error with the number of those that have joined. If the user is denied, see
// [Room.Deny], none joins. Connections that end meanwhile do not count, and it is not an error if
// the user has no connection.
func (u User) Join(ctx context.Context, room string) (joined int, err error) {
	if err := cmp.Or(checkUser(u.id), checkRoom(room)); err != nil {
		return 0, err
	}
	joined, err = u.m.joinUser(ctx, u.id, room)
	if err != nil {
		return joined, err
	}
	return u.m.everywhere(ctx, joined, askJoin, &ask{User: u.id, Room: room})
}

// joinUser is User.Join in this process.
func (m *Manager) joinUser(ctx context.Context, id, room string) (joined int, err error) {
	for _, c := range m.users.opened(id) {
		isNew, refused := c.Join(ctx, room)
		if isNew {
			joined++
		}
		if !c.session.Ended() {
			err = cmp.Or(err, refused)
		}
	}
	return joined, err
}

// Leave takes all connections and detached sessions of the user out of a room, and returns how many.
// It is [Room.Remove] of the user.
func (u User) Leave(ctx context.Context, room string) (left int, err error) {
	return u.m.Room(room).Remove(ctx, u.id)
}

// Send sends a [NewMessage] to the user, with [Manager.Send].
func (u User) Send(ctx context.Context, typ string, content any) (Result, error) {
	if err := checkUser(u.id); err != nil {
		return Result{}, err
	}
	return u.m.sendNew(ctx, ToUser(u.id), typ, content)
}

// Disconnect closes all connections of the user with [Conn.Close], in all processes, ends the user's
// detached sessions, and returns how many connections it closed. It discards tickets for the user,
// and refuses connections that are being admitted: with 403 if Authenticate is running, and with
// code 4403 if OnConnect is running. Authenticate decides about later connections: first make it
// refuse the user, and then call Disconnect, or use [User.Deny].
//
// Disconnect does not wait for the close frames. Nothing that is sent after it has returned reaches
// the connections. With a broker that connects several processes, it waits for their answers, for
// two seconds at most: if one does not answer, Disconnect returns an error that matches
// ErrUnavailable and names it. Disconnect returns ErrInvalidCloseCode for a code that [Conn.Close]
// does not send.
func (u User) Disconnect(ctx context.Context, code CloseCode, reason string) (int, error) {
	if err := checkUser(u.id); err != nil {
		return 0, err
	}
	if !code.Sendable() {
		return 0, ErrInvalidCloseCode
	}
	n := u.m.disconnect(u.id, code, reason)
	return u.m.everywhere(ctx, n, askDisconnect, &ask{User: u.id, Code: code, Reason: reason})
}

// disconnect is User.Disconnect in this process.
func (m *Manager) disconnect(id string, code CloseCode, reason string) (n int) {
	m.revocations.Revoke(admission.Subject{User: id})
	m.tickets.Discard(id)
	for _, c := range m.User(id).conns() {
		if c.Close(code, reason) == nil {
			n++
		} else {
			m.detached.end(c) // it has ended, and its session may be about to be detached
		}
	}
	for _, c := range m.users.detachedOf(id) {
		m.detached.end(c)
	}
	return n
}

// Deny keeps the user out for the duration d, calls [User.Disconnect] with code 4403, and returns
// its result. During that time, new connections are refused with 403 and Retry-After, and Register
// returns ErrDenied. If d is zero or negative, Deny ends an earlier Deny, and closes nothing.
//
// When Deny returns without an error, it is in force in all processes, also in those that start
// later. After an error that matches ErrUnavailable it is in force in this process; those that it
// has not reached learn of it within some seconds once they can be reached. The processes keep it in
// memory: it is forgotten when none is left. If it must last longer, let Authenticate refuse the user.
func (u User) Deny(ctx context.Context, d time.Duration) (int, error) {
	if err := checkUser(u.id); err != nil {
		return 0, err
	}
	return u.m.denials.deny(ctx, admission.Subject{User: u.id}, d)
}

func (u User) conns() []*Conn {
	if checkUser(u.id) != nil {
		return nil
	}
	found := u.m.users.lockLive(u.id)
	if found == nil {
		return nil
	}
	defer u.m.users.unlock(found)
	return slices.Clone(found.conns)
}

// opened returns the connections of a user whose OnConnect was called. Those for which it has not
// returned are not among the user's connections yet. They are looked for first: one that opens
// meanwhile is found there then.
func (us *users) opened(id string) (conns []*Conn) {
	u := us.lock(id)
	if u == nil {
		return nil
	}
	conns, opening := slices.Clone(u.conns), u.pending > 0
	us.unlock(u)
	if !opening {
		return conns
	}
	others := func(c *Conn) bool { return c.UserID() != id }
	conns = slices.DeleteFunc(us.m.conns.opening.Values(), others)
	for _, c := range us.m.User(id).conns() {
		if !slices.Contains(conns, c) {
			conns = append(conns, c)
		}
	}
	return conns
}

// users is the index of connections by user.
type users struct {
	index   *shardmap.Map[*user]
	m       *Manager
	limit   int  // connections of one user; zero is no limit
	replace bool // a connection beyond the limit ends the oldest one
}

func newUsers(m *Manager) *users {
	return &users{
		index: shardmap.New[*user](), m: m, limit: m.opts.Limits.ConnsPerUser,
		replace: m.opts.UserFull == UserFullReplace,
	}
}

// user is a user of this process. It exists while the user has live or pending connections or
// detached sessions. Its lock makes one step of a change between no connection and one, and of the
// notice about that change.
type user struct {
	id      string
	topic   *recovery.Topic  // of the inbox; nil if there are no inboxes
	subject *cluster.Subject // what other nodes send to the user

	mu       sync.Mutex
	conns    []*Conn // live
	detached []*Conn // connections that were lost, with their detached sessions; the oldest first
	pending  int     // connections that were admitted and are not live yet
	dead     bool    // removed from the index; a new user can have the id
}

// lockNew returns the user with this id, locked. If there is none, it makes one.
func (us *users) lockNew(id string) *user {
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

// lockLive returns the user with this id, locked, or nil if the user has no live connection.
func (us *users) lockLive(id string) *user {
	u := us.lock(id)
	if u != nil && len(u.conns) == 0 {
		us.unlock(u)
		return nil
	}
	return u
}

// lock returns the user with this id, locked, or nil if there is none.
func (us *users) lock(id string) *user {
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

// unlock unlocks a user, and removes it if it has no connections, no pending ones and no detached
// sessions.
func (us *users) unlock(u *user) {
	if len(u.conns)+len(u.detached)+u.pending > 0 {
		u.mu.Unlock()
		return
	}
	u.dead = true
	if u.topic != nil {
		u.topic.Close(us.m.broker)
	}
	u.subject.Leave()
	u.mu.Unlock()
	us.index.CompareAndDelete(u.id, u)
}

// wait waits until what other nodes send to a user arrives. The user is not removed meanwhile,
// because a place is reserved for the connection.
func (us *users) wait(ctx context.Context, id string) {
	if id == "" || us.m.node.Alone() {
		return
	}
	u := us.lockNew(id)
	subject := u.subject
	us.unlock(u)
	subject.Wait(ctx)
}

// online returns those of the users who have a connection in this process.
func (us *users) online(ids []string) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		u := us.lockLive(id)
		if u != nil {
			us.unlock(u)
		}
		return u == nil
	})
}

// reserve keeps a place for a connection that is about to open, and reports false if there is none.
// If a new connection replaces the oldest one, only pending connections take places.
func (us *users) reserve(id string) bool {
	if id == "" {
		return true
	}
	u := us.lockNew(id)
	defer us.unlock(u)
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

// unreserve undoes reserve.
func (us *users) unreserve(id string) {
	if id == "" {
		return
	}
	u := us.lockNew(id)
	u.pending--
	us.unlock(u)
}

// add makes a pending connection live, and reports whether the user had no connection and no
// detached session before. u is locked.
func (us *users) add(u *user, c *Conn) (first bool) {
	u.pending--
	c.at.device = int32(len(u.conns))
	u.conns = append(u.conns, c)
	if len(u.conns)+len(u.detached) > 1 {
		return false
	}
	us.m.counters.Users.Add(1)
	return true
}

// expelOldest ends the user's oldest connections if there are more than the limit and the option
// UserFullReplace is set. u is locked.
func (us *users) expelOldest(u *user) {
	if us.limit == 0 || !us.replace || len(u.conns) <= us.limit {
		return
	}
	ended := func(c *Conn) bool { return c.session.Ended() }
	open := slices.DeleteFunc(slices.Clone(u.conns), ended)
	slices.SortFunc(open, func(a, b *Conn) int {
		return a.session.Opened().Compare(b.session.Opened())
	})
	for _, c := range open[:max(0, len(open)-us.limit)] {
		c.session.Expel(CauseReplaced, CloseReplaced, "replaced by a newer connection")
	}
}

// remove takes a live connection out, and reports whether the user has no other one and no detached
// session. u is locked.
func (us *users) remove(u *user, c *Conn) (wasLast bool) {
	u.drop(c)
	return us.uncountIfGone(u)
}

// detach moves a live connection to the detached sessions. u is locked.
func (us *users) detach(u *user, c *Conn) {
	u.drop(c)
	u.detached = append(u.detached, c)
}

// excess returns the oldest detached sessions of a user who has more connections than the limit,
// together with the detached sessions. u is locked.
func (us *users) excess(u *user) []*Conn {
	n := len(u.conns) + len(u.detached) - us.limit
	if us.limit == 0 || n <= 0 {
		return nil
	}
	return slices.Clone(u.detached[:min(n, len(u.detached))])
}

// predecessor returns the membership of a room that c, which joins it, continues: that of a
// detached session of the same user with the same presence key. It returns nil if there is none.
// Otherwise it has locked the connection of that session, and the caller must unlock it. u and c.mu
// are locked. u is nil if c has no user, and may be nil if c has no presence key.
func (u *user) predecessor(c *Conn, room string) *membership {
	if u == nil || c.presenceKey == "" {
		return nil
	}
	for _, old := range slices.Backward(u.detached) {
		if old.presenceKey != c.presenceKey {
			continue
		}
		old.mu.Lock()
		if m := old.rooms.find(room); m != nil { // a session that has ended meanwhile is in no room
			return m
		}
		old.mu.Unlock()
	}
	return nil
}

// forget takes a detached session out, and reports whether the user has no other one and no live
// connection. u is locked.
func (us *users) forget(u *user, c *Conn) (wasLast bool) {
	u.detached = slices.DeleteFunc(u.detached, func(other *Conn) bool { return other == c })
	return us.uncountIfGone(u)
}

// uncountIfGone reports whether the user has no connection and no detached session. If so, it
// subtracts the user from the statistics.
func (us *users) uncountIfGone(u *user) bool {
	if len(u.conns)+len(u.detached) > 0 {
		return false
	}
	us.m.counters.Users.Add(-1)
	return true
}

// detachedOf returns the connections of a user's detached sessions.
func (us *users) detachedOf(id string) []*Conn {
	u := us.lock(id)
	if u == nil {
		return nil
	}
	defer us.unlock(u)
	return slices.Clone(u.detached)
}

// drop takes a connection out of the live ones, and ends its subscription to the inbox.
func (u *user) drop(c *Conn) {
	last := len(u.conns) - 1
	u.conns[c.at.device] = u.conns[last]
	u.conns[c.at.device].at.device = c.at.device
	u.conns = shrink.Pop(u.conns)
	if c.inbox != nil {
		c.inbox.Leave()
	}
}
