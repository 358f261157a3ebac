package realtime

import (
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/cluster"
	"github.com/realtime-go/realtime/internal/parts"
	"github.com/realtime-go/realtime/internal/state"
	"github.com/realtime-go/realtime/internal/wire"
)

const (
	// maxOpening is how long members of a room that has begun wait for what the other nodes have.
	maxOpening = 500 * time.Millisecond
	// contestTime is how long two nodes may show a member of one user with one key: longer than the
	// lease of a node.
	contestTime = 8 * time.Second
)

// partView is a room as package parts sees it.
type partView struct{ r *room }

// Show implements parts.View. If this node has a member with the key, too, one of the two gives way.
func (v partView) Show(key string, m *parts.Member, at cluster.ID) {
	r := v.r
	if r.name == everybody {
		return
	}
	if m == nil {
		r.useState().ShowForeign(key, nil, false)
		return
	}
	if own := r.useState().Own(key); own != nil {
		r.giveWay(own, m, at)
	}
	e := wire.Entry{User: m.User, Info: m.Info, State: m.State, Away: m.Away}
	r.state.ShowForeign(key, &e, m.Lost)
}

// giveWay decides between a member of this node and one of another node with the same key. Of two users,
// the key is that of the one who had it first. A user's client has gone to the node where the member is
// newer; if both stay, they are two pages, of which the older one gets another key.
func (r *room) giveWay(own *state.Entry, other *parts.Member, at cluster.ID) {
	m := own.Owner.(*membership)
	same := m.conn.UserID() == other.User && other.User != ""
	first := ownMember(own).Before(r.m.node.ID, other, at)
	switch {
	case same && other.Lost: // its client has come here, and that node gives it up
	case same && m.detached:
		r.m.broker.Go(func() { r.m.joins.leave(m.conn, r.name, nil) })
	case !same && !first:
		r.rekey(own)
	case same && first && !own.Contested: // this node may be about to notice that the client is gone
		own.Contested = true
		r.contest(own)
	}
}

// contest gives a member another key if a member of the same user at another node still has its key
// after some time: they are two pages.
func (r *room) contest(own *state.Entry) {
	time.AfterFunc(contestTime, func() { r.m.broker.Go(func() { r.endContest(own) }) })
}

func (r *room) endContest(own *state.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dead || r.part == nil || r.state == nil || r.state.Own(own.Key) != own {
		return
	}
	switch other, at := r.part.Best(own.Key); {
	case other == nil || !ownMember(own).Before(r.m.node.ID, other, at):
		own.Contested = false
	case other.Lost || !r.m.node.Answers(at) || own.Owner.(*membership).detached:
		// one of them is about to go
		r.contest(own)
	default:
		own.Contested = false
		r.rekey(own)
	}
}

// rekey gives an entry another key, and shows the member of another node that has the old one.
func (r *room) rekey(own *state.Entry) {
	key := own.Key
	own.Rekey()
	if best, at := r.part.Best(key); best != nil {
		partView{r}.Show(key, best, at)
	}
}

// lostPart notes that the connection of a member is lost, or is back.
func (r *room) lostPart(m *membership) {
	if r.part == nil || m.view == nil || m.view.entry == nil {
		return
	}
	own := m.view.entry
	r.changedPart(own.Key)
	if other, at := r.part.Best(own.Key); other != nil {
		r.giveWay(own, other, at)
	}
}

// Attend implements parts.View.
func (v partView) Attend(user string, more int) {
	r := v.r
	before, now := int32(max(0, -more)), int32(max(0, more)) // of an anonymous one, each is told
	if user != "" {
		before = r.users[user].conns
		r.foreignConns(user, int32(more))
		now = r.users[user].conns
	}
	switch {
	case before == 0 && now > 0:
		r.tellForeign(wire.RoomJoined, wire.UserJoined, user)
	case before > 0 && now == 0:
		r.tellForeign(wire.RoomLeft, wire.UserLeft, user)
	}
	r.changes++
	r.countState()
}

// tellForeign sends a notice about a user at another node.
func (r *room) tellForeign(
	inRoom func(user, room string) broker.Message, inAll func(user string) broker.Message, user string,
) {
	if r.name != everybody {
		r.notifyOf(inRoom, user)
	} else {
		r.m.announcer.tellLater(announcement{message: inAll, user: user})
	}
}

// Recount implements parts.View.
func (v partView) Recount(users, conns int) {
	v.r.foreign = Count{users, conns}
	v.r.changes++
	v.r.countState()
}

// usePart makes the room share its members with the other nodes, if there are any and it shows
// something. The room is new, or its members have left.
func (r *room) usePart() {
	if r.part = nil; r.policy.show != ShowNothing && !r.m.node.Alone() {
		r.part = parts.NewRoom(partView{r})
	}
	r.foreign = Count{}
}

// opening is the time from the first join of a room at this node until the others have said what
// they have of it, or have not answered. Until then members are given nothing of its state: a client
// that comes from another node would see everybody else leave, and come back.
type opening struct {
	asked, done bool
	waiting     []newcomer
}

// newcomer is a member that waits for the state of its room.
type newcomer struct {
	*membership
	asked wire.RoomState
}

// awaitState makes a member wait for the state of the room. It reports false if the state is known.
// The room is locked.
func (r *room) awaitState(m *membership, asked *wire.RoomState) bool {
	if r.m.node.Alone() {
		return false
	}
	if r.opening == nil {
		r.opening = &opening{}
	}
	if r.opening.done {
		return false
	}
	n := newcomer{membership: m}
	if asked != nil {
		n.asked = *asked
		n.asked.Own = nil // the member has it
	}
	r.opening.waiting = append(r.opening.waiting, n)
	return true
}

// opened ends an opening: those who wait and are still members are given the state.
func (r *room) opened(o *opening) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.opening != o || o.done { // all have left, or it took too long
		return
	}
	for _, n := range o.waiting {
		if i := n.index; i >= 0 && i < len(r.members) && r.members[i].membership == n.membership {
			r.beginState(n.membership, &n.asked)
		}
	}
	o.done, o.waiting = true, nil
}

// changedPart notes that the own part of a room has changed. The room is locked.
func (r *room) changedPart(key string) {
	if r.part == nil {
		return
	}
	if key == "" && r.part.Recounted() || key != "" && r.part.Changed(key) {
		r.m.spread.later(r.name)
	}
}

// flushPart queues what the other nodes have not been told. The room is locked. A node that shuts down
// tells nothing more: its clients go to other nodes, and have not left.
func (r *room) flushPart() {
	if r.part == nil || !r.part.Dirty() || r.m.capacity.Closed() {
		return
	}
	if r.part.Quiet() {
		r.part.Flush(r.m.spread.clock.Skip(), r.ownMember)
		return
	}
	m := r.part.Flush(r.m.spread.clock.Next(r.name), r.ownMember)
	r.fillPart(m)
	r.m.spread.push(r.name, m)
}

// ownMember returns the member of this node with a key, or nil.
func (r *room) ownMember(key string) *parts.Member {
	switch {
	case r.name == everybody:
		return r.m.announcer.ownUser(key)
	case r.state == nil:
		return nil
	}
	if e := r.state.Own(key); e != nil {
		return ownMember(e)
	}
	return nil
}

// ownMember returns an entry of this node as the others learn of it.
func ownMember(e *state.Entry) *parts.Member {
	m := parts.MemberOf(&e.Entry)
	m.Lost, m.Since = e.Owner.(*membership).detached, e.Since
	return m
}

// fillPart fills in what a message says about the whole part.
func (r *room) fillPart(m *parts.Message) {
	if m.Room, m.Conns = r.name, int(r.shown); r.policy.show == ShowCount { // otherwise the members tell
		m.Users = len(r.users)
	}
}

// wholePart returns the whole own part. The room is locked.
func (r *room) wholePart() *parts.Message {
	r.flushPart()
	m := &parts.Message{Version: r.part.Told(), Members: map[string]*parts.Member{}}
	if m.Version == 0 {
		m.Version = r.m.spread.clock.Last()
	}
	switch {
	case r.name == everybody:
		m.Members = r.m.announcer.ownUsers()
	case r.state != nil:
		for _, e := range r.state.OwnEntries() {
			m.Members[e.Key] = ownMember(e)
		}
	}
	r.fillPart(m)
	return m
}

// retell calls do, which changes what is known of other nodes. The room is locked.
func (r *room) retell(do func()) {
	count, version := r.count(), r.version()
	if do(); r.state != nil && r.count() != count && r.version() == version {
		r.state.Touch()
	}
}

// judgePart shows the members of a node as its state says. The room is locked.
func (r *room) judgePart(id cluster.ID) {
	switch r.m.node.State(id) {
	case cluster.Gone:
		r.part.Forget(id)
	case cluster.Lost:
		r.part.SetLost(id, true)
	case cluster.Alive:
		r.part.SetLost(id, false)
	}
}
