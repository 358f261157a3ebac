package parts

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/realtime-go/realtime/internal/cluster"
	"github.com/realtime-go/realtime/internal/wire"
)

// Message is what a node says about its part of a room.
type Message struct {
	Room string `json:"room"`
	// Prev is the version that the receiver must have; the message is a difference from it. Zero: it
	// is the whole part.
	Prev    uint64 `json:"prev,omitempty"`
	Version uint64 `json:"ver"`
	// Users and Conns are numbers of the part.
	Users   int                `json:"users,omitempty"`
	Conns   int                `json:"conns,omitempty"`
	Members map[string]*Member `json:"members,omitempty"` // by key; nil: gone
	// Others are, in an answer with a whole part, the nodes whose parts the sender holds.
	Others []cluster.ID `json:"others,omitempty"`
	// From is set if the part is that of another node than the sender, which may be lost. Left is the
	// time that its members then have to come back.
	From *cluster.ID   `json:"from,omitempty"`
	Left time.Duration `json:"left,omitempty"`
}

// Member is an entry of a part.
type Member struct {
	User  string          `json:"user,omitempty"`
	Info  json.RawMessage `json:"info,omitempty"`
	State json.RawMessage `json:"state,omitempty"`
	Away  bool            `json:"away,omitempty"`
	// Lost says that the connection is lost, or the node: the client may come back at another node.
	Lost bool `json:"lost,omitempty"`
	// Since is when it became a member at its node, in milliseconds of Unix time.
	Since int64 `json:"since,omitempty"`
}

// Before reports whether m, at one node, became a member before o, at another one.
func (m *Member) Before(at cluster.ID, o *Member, other cluster.ID) bool {
	if m.Since != o.Since {
		return m.Since < o.Since
	}
	return slices.Compare(at[:], other[:]) < 0
}

// MemberOf returns an entry as part of a message.
func MemberOf(e *wire.Entry) *Member {
	return &Member{User: e.User, Info: e.Info, State: e.State, Away: e.Away}
}

func (m *Member) equal(o *Member) bool {
	return m.User == o.User && m.Away == o.Away && m.Lost == o.Lost && m.Since == o.Since && bytes.Equal(m.Info, o.Info) &&
		bytes.Equal(m.State, o.State)
}

// View is told what the other nodes have in a room. The lock of the room is held.
type View interface {
	// Show shows a member of another node, or removes it if m is nil.
	Show(key string, m *Member, at cluster.ID)
	// Attend notes that a user has more connections at other nodes, or fewer.
	Attend(user string, more int)
	// Recount notes how many users and connections the parts of the other nodes have. A user at
	// several nodes counts several times.
	Recount(users, conns int)
}

// Room is a room of a node. The lock of the room guards it.
type Room struct {
	view View

	told  uint64              // the version of the own part that the others were told; zero: none
	dirty map[string]struct{} // keys that have changed since
	count bool                // the numbers have changed since

	asked bool // all nodes that have the room were asked for their parts, and there were none
	heard bool // another node has said something of the room, or has asked

	held         map[cluster.ID]*part
	keys         map[string][]cluster.ID // which nodes have a member with a key
	users, conns int                     // of the parts that are held
}

// part is what another node has.
type part struct {
	version uint64
	lost    bool // the node is not heard any more, or has said goodbye
	members map[string]*Member
	users   int
	conns   int
}

// NewRoom returns a room in which no node has told anything.
func NewRoom(v View) *Room {
	return &Room{view: v, held: map[cluster.ID]*part{}, keys: map[string][]cluster.ID{}}
}

// Changed notes that an own member has changed, or is new or gone. It reports whether it is the
// first change since Flush.
func (r *Room) Changed(key string) (first bool) {
	first = !r.Dirty()
	if r.dirty == nil {
		r.dirty = map[string]struct{}{}
	}
	r.dirty[key] = struct{}{}
	return first
}

// Recounted notes that the number of own users or connections has changed, like Changed.
func (r *Room) Recounted() (first bool) {
	first = !r.Dirty()
	r.count = true
	return first
}

// Flush returns what has changed in the own part since the call before, or nil. version is the new
// version, and member returns an own member, or nil if it is gone. The caller fills in the rest.
func (r *Room) Flush(version uint64, member func(key string) *Member) *Message {
	if !r.Dirty() {
		return nil
	}
	m := &Message{Prev: r.told, Version: version, Members: map[string]*Member{}}
	for key := range r.dirty {
		m.Members[key] = member(key)
	}
	r.told, r.dirty, r.count = version, nil, false
	return m
}

// FoundNobody notes that no node has the room, at a time when this one listened to all of them.
func (r *Room) FoundNobody() { r.asked = true }

// Heard notes that another node has the room, or begins to have it.
func (r *Room) Heard() { r.heard = true }

// Quiet reports whether no other node needs to be told anything: one that begins to have the room asks.
func (r *Room) Quiet() bool { return r.asked && !r.heard }

// Dirty reports whether Flush has something to return.
func (r *Room) Dirty() bool { return len(r.dirty) > 0 || r.count }

// Told returns the version that the others were told.
func (r *Room) Told() uint64 { return r.told }

// Version returns the version of the part of another node that is held; zero if there is none.
func (r *Room) Version(from cluster.ID) uint64 {
	if p := r.held[from]; p != nil {
		return p.version
	}
	return 0
}

// Receive takes what another node says. It reports whether the node must be asked for its whole
// part, because something is missing.
func (r *Room) Receive(from cluster.ID, m *Message) (ask bool) {
	p := r.held[from]
	switch {
	case p != nil && m.Version <= p.version: // older, or again
		return false
	case m.Prev != 0 && (p == nil || m.Prev != p.version):
		r.heard = true
		return true
	}
	if p == nil && len(m.Members) == 0 && m.Users == 0 && m.Conns == 0 {
		return false // most nodes have nothing in most rooms
	}
	r.heard = true
	if p == nil {
		p = &part{members: map[string]*Member{}}
		r.held[from] = p
	}
	r.users += m.Users - p.users
	r.conns += m.Conns - p.conns
	p.version, p.users, p.conns = m.Version, m.Users, m.Conns
	r.view.Recount(r.users, r.conns) // first: what is shown of the members has the numbers beside it
	if m.Prev == 0 {
		for key := range p.members {
			if m.Members[key] == nil {
				r.set(from, p, key, nil)
			}
		}
	}
	for key, member := range m.Members {
		r.set(from, p, key, member)
	}
	return false
}

// set changes a member of a part, or removes it.
func (r *Room) set(from cluster.ID, p *part, key string, m *Member) {
	old := p.members[key]
	if old == m || old != nil && m != nil && old.equal(m) {
		return
	}
	switch {
	case m == nil:
		delete(p.members, key)
		r.keys[key] = slices.DeleteFunc(r.keys[key], func(id cluster.ID) bool { return id == from })
		if len(r.keys[key]) == 0 {
			delete(r.keys, key)
		}
	default:
		p.members[key] = m
		if old == nil {
			r.keys[key] = append(r.keys[key], from)
		}
	}
	if m != nil && (old == nil || old.User != m.User) {
		r.view.Attend(m.User, 1)
	}
	if old != nil && (m == nil || old.User != m.User) {
		r.view.Attend(old.User, -1)
	}
	r.show(key)
}

func (r *Room) show(key string) {
	m, at := r.Best(key)
	r.view.Show(key, m, at)
}

// Best returns the member with a key that is shown if this node has none, and its node. It returns nil if
// there is none. All nodes show the same one: of those that are not lost, or else of all, the key is that
// of the user who had it first, and of that user's members the newest is shown, to whose node the client
// has gone.
func (r *Room) Best(key string) (best *Member, at cluster.ID) {
	if len(r.keys[key]) == 1 { // nearly always
		at = r.keys[key][0]
		return r.member(at, key), at
	}
	owner, at := r.choose(key, func(m *Member, at cluster.ID, than *Member, other cluster.ID) bool {
		return m.Before(at, than, other)
	})
	if owner == nil || owner.User == "" {
		return owner, at
	}
	return r.choose(key, func(m *Member, at cluster.ID, than *Member, other cluster.ID) bool {
		mine, its := m.User == owner.User, than.User == owner.User
		return mine && (!its || than.Before(other, m, at))
	})
}

// choose returns the member with a key that is better than all others. One that is not lost is always
// better.
func (r *Room) choose(
	key string, better func(m *Member, at cluster.ID, than *Member, other cluster.ID) bool,
) (best *Member, at cluster.ID) {
	for _, id := range r.keys[key] {
		m := r.member(id, key)
		if best == nil || best.Lost && !m.Lost || best.Lost == m.Lost && better(m, id, best, at) {
			best, at = m, id
		}
	}
	return best, at
}

// member returns a member as it is now: that of a node that is lost is away.
func (r *Room) member(id cluster.ID, key string) *Member {
	p := r.held[id]
	m := p.members[key]
	if p.lost {
		copied := *m
		copied.Away, copied.Lost = true, true
		return &copied
	}
	return m
}

// SetLost notes that a node is not heard any more, or is again. Its members are away meanwhile.
func (r *Room) SetLost(id cluster.ID, lost bool) {
	p := r.held[id]
	if p == nil || p.lost == lost {
		return
	}
	p.lost = lost
	for key := range p.members {
		r.show(key)
	}
}

// Held returns the part of another node as it is held, or nil.
func (r *Room) Held(from cluster.ID) *Message {
	p := r.held[from]
	if p == nil {
		return nil
	}
	return &Message{
		From: &from, Version: p.version, Users: p.users, Conns: p.conns, Members: maps.Clone(p.members),
	}
}

// Forget removes the part of a node that is gone.
func (r *Room) Forget(id cluster.ID) {
	p := r.held[id]
	if p == nil {
		return
	}
	r.users -= p.users
	r.conns -= p.conns
	r.view.Recount(r.users, r.conns)
	for key := range p.members {
		r.set(id, p, key, nil)
	}
	delete(r.held, id)
}

// Nodes returns the nodes whose parts are held.
func (r *Room) Nodes() (ids []cluster.ID) {
	for id := range r.held {
		ids = append(ids, id)
	}
	return ids
}

// Holds reports whether the part of a node is held.
func (r *Room) Holds(id cluster.ID) bool { return r.held[id] != nil }
