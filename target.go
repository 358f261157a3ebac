package realtime

import (
	"slices"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/names"
)

// Target says which connections get a message. Make one with [ToAll], [ToRoom], [ToUser] or
// [ToConn], combine several with [Target.Union], and exclude receivers with [Target.Except] and
// [Target.ExceptUser]. Each connection gets at most one copy. The zero Target is nobody.
//
// A Target is plain data. It may be kept and used by many goroutines.
type Target struct {
	All   bool
	Rooms []string
	Users []string
	Conns []string // connection ids

	ExceptConns []string
	ExceptUsers []string
}

// ToAll is every connection, anonymous ones too.
func ToAll() Target { return Target{All: true} }

// ToRoom is every member of the rooms.
func ToRoom(names ...string) Target { return Target{Rooms: names} }

// ToUser is every connection of the users.
func ToUser(ids ...string) Target { return Target{Users: ids} }

// ToConn is the connections with these ids.
func ToConn(ids ...string) Target { return Target{Conns: ids} }

// Union is the receivers of t and those of u. The exceptions of both hold for all. A message to a
// union has one place among the others of each of its rooms and users, see [Manager.Send]. If some
// of its targets keep it, no queue drops it for a later message.
func (t Target) Union(u Target) Target {
	return Target{
		All:         t.All || u.All,
		Rooms:       slices.Concat(t.Rooms, u.Rooms),
		Users:       slices.Concat(t.Users, u.Users),
		Conns:       slices.Concat(t.Conns, u.Conns),
		ExceptConns: slices.Concat(t.ExceptConns, u.ExceptConns),
		ExceptUsers: slices.Concat(t.ExceptUsers, u.ExceptUsers),
	}
}

// Except is t without the connections with these ids: the one, for example, that
// the message came from. A connection that has resumed the session of one of them is left out too.
func (t Target) Except(connIDs ...string) Target {
	t.ExceptConns = slices.Concat(t.ExceptConns, connIDs)
	return t
}

// ExceptUser is t without all connections of these users. A name that cannot exist leaves nobody
// out, here and in Except: so it may be that of an anonymous connection, which is empty.
func (t Target) ExceptUser(ids ...string) Target {
	t.ExceptUsers = slices.Concat(t.ExceptUsers, ids)
	return t
}

// checkTarget returns an error that matches ErrName if the target names what cannot exist. What it
// leaves out may be anything.
func checkTarget(t *Target) error {
	for _, names := range []struct {
		of    string
		names []string
		valid func(string) error
	}{{"room", t.Rooms, ValidName}, {"user", t.Users, names.CheckUser}, {"conn", t.Conns, ValidName}} {
		for _, name := range names.names {
			if err := names.valid(name); err != nil {
				return about(names.of, err)
			}
		}
	}
	return nil
}

// nobody reports whether the target names no receivers.
func nobody(t *broker.Target) bool {
	return !t.All && len(t.Rooms)+len(t.Users)+len(t.Conns) == 0
}

// onlyRoom is the only room of the target, or empty.
func onlyRoom(t *broker.Target) string {
	if t.All || len(t.Rooms) != 1 || len(t.Users)+len(t.Conns) > 0 {
		return ""
	}
	return t.Rooms[0]
}

// cloneTarget returns a target that has nothing in common with t.
func cloneTarget(t broker.Target) broker.Target {
	t.Rooms, t.Users, t.Conns = slices.Clone(t.Rooms), slices.Clone(t.Users), slices.Clone(t.Conns)
	t.ExceptConns, t.ExceptUsers = slices.Clone(t.ExceptConns), slices.Clone(t.ExceptUsers)
	return t
}

// sorted returns names in order and each once. It does not change names.
func sorted(names []string) []string {
	if len(names) < 2 {
		return names
	}
	names = slices.Clone(names)
	slices.Sort(names)
	return slices.Compact(names)
}
