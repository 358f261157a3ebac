package realtime

import "github.com/realtime-go/realtime/internal/recovery"

// membership is a connection's place in a room.
type membership struct {
	conn *Conn
	room string

	older, newer *membership // in order of joining; guarded by conn.mu

	asked bool // the client asked for it; guarded by conn.mu

	sub    *recovery.Subscription // nil in a room that keeps no history
	slot   int                    // index among the room's members; guarded by the room
	shown  bool                   // in the room's roster, and announced; guarded by the room
	absent bool                   // no member, and in the roster if shown; guarded by the room
}

// memberships are the rooms of a connection, whose lock guards them. The zero value is ready.
type memberships struct {
	n       int                    // rooms
	newest  *membership            // the room joined last
	byName  map[string]*membership // nil while they are few
	apiRoom string                 // the room that the REST interface put it into, or empty
	parted  bool                   // it has left a room
}

// fewRooms is how many rooms are found by a walk. A map is not faster for so few, and takes more
// memory than the rooms of most connections.
const fewRooms = 16

// find returns the membership in a room, or nil.
func (ms *memberships) find(room string) *membership {
	if ms.byName != nil {
		return ms.byName[room]
	}
	m := ms.newest
	for m != nil && m.room != room {
		m = m.older
	}
	return m
}

// names returns the rooms in order of joining.
func (ms *memberships) names() []string {
	names := make([]string, ms.n)
	for m, i := ms.newest, len(names); m != nil; m = m.older {
		i--
		names[i] = m.room
	}
	return names
}

// add adds a membership.
func (ms *memberships) add(m *membership) {
	if m.older = ms.newest; m.older != nil {
		m.older.newer = m
	}
	ms.newest = m
	if ms.n++; ms.n <= fewRooms {
		return
	}
	if ms.byName != nil {
		ms.byName[m.room] = m
		return
	}
	ms.byName = make(map[string]*membership)
	for m := ms.newest; m != nil; m = m.older {
		ms.byName[m.room] = m
	}
}

// remove removes a membership.
func (ms *memberships) remove(m *membership) {
	ms.parted = true
	ms.n--
	delete(ms.byName, m.room)
	if m.older != nil {
		m.older.newer = m.newer
	}
	if m.newer != nil {
		m.newer.older = m.older
	} else {
		ms.newest = m.older
	}
	if ms.apiRoom == m.room {
		ms.apiRoom = ""
	}
}
