package realtime

import (
	"context"
	"iter"
	"slices"
)

// Room is a handle on a room, whether or not anybody is in it: a small value, made
// by [Manager.Room].
type Room struct {
	m    *Manager
	name string
}

// Room returns the handle on a room.
func (m *Manager) Room(name string) Room { return Room{m, name} }

// Name returns the room's name.
func (r Room) Name() string { return r.name }

// Members returns the users in the room, each once and in order. Anonymous
// connections are not among them. It does not block; ctx and the error, which is
// nil, are for brokers that know the rosters of other processes.
func (r Room) Members(context.Context) ([]string, error) {
	found := r.m.index.rooms.find(r.name)
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
	found := r.m.index.rooms.find(r.name)
	if found == nil {
		return Count{}, nil
	}
	defer found.mu.Unlock()
	return found.count(), nil
}

// LocalConns returns the room's connections in this process, as of the call.
func (r Room) LocalConns() iter.Seq[*Conn] {
	found := r.m.index.rooms.find(r.name)
	if found == nil {
		return slices.Values[[]*Conn](nil)
	}
	defer found.mu.Unlock()
	return slices.Values(found.conns())
}

// User is a handle on a user, connected or not: a small value, made by
// [Manager.User].
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
func (u User) Count(context.Context) (int, error) { return len(u.conns()), nil }

// LocalConns returns the user's connections in this process, as of the call.
func (u User) LocalConns() iter.Seq[*Conn] { return slices.Values(u.conns()) }

// Disconnect closes all open connections of the user, as [Conn.Close] does, and returns
// how many. It does not keep the user from coming back, and a connection that is still
// in OnConnect is not open. It does not wait. It returns
// ErrCloseCode for a code that may not be sent.
func (u User) Disconnect(_ context.Context, code CloseCode, reason string) (int, error) {
	if !code.sendable() {
		return 0, ErrCloseCode
	}
	n := 0
	for _, c := range u.conns() {
		if c.Close(code, reason) == nil {
			n++
		}
	}
	return n, nil
}

func (u User) conns() []*Conn {
	found := u.m.index.users.find(u.id)
	if found == nil {
		return nil
	}
	defer u.m.index.users.leave(found)
	return slices.Clone(found.conns)
}

// LocalConns returns all connections in this process, as of the call.
func (m *Manager) LocalConns() iter.Seq[*Conn] {
	return slices.Values(m.index.everyone.snapshot())
}

// LocalRooms returns the names of all rooms that have members in this process, in
// order, as of the call.
func (m *Manager) LocalRooms() iter.Seq[string] {
	var names []string
	for _, r := range m.index.rooms.index.snapshot() {
		names = append(names, r.name)
	}
	slices.Sort(names)
	return slices.Values(names)
}
