package realtime

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"time"

	"github.com/realtime-go/realtime/internal/admission"
)

// Room is a handle on a room, whether or not anybody is in it: a small value, made
// by [Manager.Room]. Its methods return ErrName for a room that cannot exist, see [ValidName]:
// also those of the zero Room.
type Room struct {
	m    *Manager
	name string
}

// Room returns the handle on a room.
func (m *Manager) Room(name string) Room { return Room{m, name} }

// Name returns the room's name.
func (r Room) Name() string { return r.name }

// check returns an error if there can be no such room, as of a zero Room.
func (r Room) check() error { return checkRoom(r.name) }

// Members returns the users in the room, each once and in order. Anonymous
// connections are not among them. It does not block; ctx and the error, which is
// nil, are for brokers that know the rosters of other processes.
func (r Room) Members(context.Context) ([]string, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	found := r.m.rooms.find(r.name)
	if found == nil {
		return []string{}, nil
	}
	users := found.roster()
	found.mu.Unlock()
	slices.Sort(users)
	return users, nil
}

// Count returns how many are in the room. It is as cheap for a large room as for a
// small one. ctx and error are as for Members.
func (r Room) Count(context.Context) (Count, error) {
	if err := r.check(); err != nil {
		return Count{}, err
	}
	found := r.m.rooms.find(r.name)
	if found == nil {
		return Count{}, nil
	}
	defer found.mu.Unlock()
	return found.count(), nil
}

// LocalConns returns the room's connections in this process, as of the call.
func (r Room) LocalConns() iter.Seq[*Conn] {
	if r.check() != nil {
		return slices.Values[[]*Conn](nil)
	}
	found := r.m.rooms.find(r.name)
	if found == nil {
		return slices.Values[[]*Conn](nil)
	}
	defer found.mu.Unlock()
	return slices.Values(found.conns())
}

// Remove takes all connections of a user out of the room, and returns how many. A join
// that a client or a REST caller has asked for and that is being authorised fails with
// ErrDenied; one that is asked for after that is up to the authorizer. When it returns, the
// user is no member, unless [Manager.Join] is called. ctx is for brokers to come.
func (r Room) Remove(_ context.Context, user string) (int, error) {
	if err := cmp.Or(r.check(), checkUser(user)); err != nil {
		return 0, err
	}
	x := r.m
	x.revocations.Revoke(admission.Subject{User: user, Room: r.name})
	n := 0
	for _, c := range append(x.rooms.conns(r.name, user), x.users.away(user)...) {
		if left, _ := x.joins.part(c, r.name, nil); left {
			n++
		}
	}
	return n, nil
}

// Deny keeps a user out of the room for some time, and takes him out as Remove does. Every
// way to join returns ErrDenied, that of the application too. Zero or less lifts it. It holds
// in this process, until that ends.
func (r Room) Deny(ctx context.Context, user string, how time.Duration) (int, error) {
	if err := cmp.Or(r.check(), checkUser(user)); err != nil {
		return 0, err
	}
	r.m.revocations.Deny(admission.Subject{User: user, Room: r.name}, how)
	if how <= 0 {
		return 0, nil
	}
	return r.Remove(ctx, user)
}

// User is a handle on a user, connected or not: a small value, made by
// [Manager.User]. Its methods return ErrName for a user who cannot exist, see [ValidName]: also
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
// ctx is for brokers to come. It returns ErrCloseCode for a code that may not be sent.
func (u User) Disconnect(_ context.Context, code CloseCode, reason string) (int, error) {
	if err := checkUser(u.id); err != nil {
		return 0, err
	}
	if !code.Sendable() {
		return 0, ErrCloseCode
	}
	u.m.revocations.Revoke(admission.Subject{User: u.id})
	n := 0
	for _, c := range u.conns() {
		if c.Close(code, reason) == nil {
			n++
		} else {
			u.m.absences.end(c) // it was lost, and is about to become absent
		}
	}
	for _, c := range u.m.users.away(u.id) {
		u.m.absences.end(c)
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

// LocalConns returns all connections in this process, as of the call.
func (m *Manager) LocalConns() iter.Seq[*Conn] {
	return slices.Values(m.conns.everyone.snapshot())
}

// LocalRooms returns the names of all rooms that have members in this process, in
// order, as of the call.
func (m *Manager) LocalRooms() iter.Seq[string] {
	var names []string
	for _, r := range m.rooms.index.Values() {
		names = append(names, r.name)
	}
	slices.Sort(names)
	return slices.Values(names)
}
