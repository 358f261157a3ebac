package realtime

import (
	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/parts"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/wire"
)

// everybody is the name of a room that has all users as members, if there are other nodes and users
// are announced. Neither clients nor the application can name it. It has no members that are
// connections, and so no state: of each user it knows at how many nodes they are.
const everybody = ""

// announcer sends notices about users who come and go, see Options.AnnounceUsers.
type announcer struct {
	m     *Manager
	users *room // everybody; nil if there are no other nodes
}

// newAnnouncer requires that the Manager has its node and its rooms.
func newAnnouncer(m *Manager) announcer {
	a := announcer{m: m}
	if m.opts.AnnounceUsers && !m.node.Alone() {
		a.users = m.rooms.index.GetOrPut(everybody, func() *room {
			r := m.rooms.newRoom(everybody, roomPolicy{show: ShowMembers})
			r.holds = 1 // it stays
			return r
		})
	}
	return a
}

// begin learns which users the other nodes have.
func (a *announcer) begin() {
	if a.users != nil {
		a.m.spread.begin(everybody)
	}
}

// encode encodes a notice about a user, or returns nil if there are none about users.
func (a *announcer) encode(message func(user string) broker.Message, user string) *wire.Frames {
	if !a.m.opts.AnnounceUsers {
		return nil
	}
	f := &wire.Frames{Message: message(user)}
	a.m.speakers.Encode(f)
	return f
}

// userCame notes that a user has a first connection c here. It sends the notice to all others, unless
// the user is at another node. A nil notice is not sent. The user is locked.
func (a *announcer) userCame(user string, notice *wire.Frames, c *Conn) {
	if notice != nil {
		a.attend(user, 1, notice, c)
	}
}

// userLeft notes that a user has no connection here any more. It sends the notice to all, unless the
// user is at another node. A nil notice is not sent. The user is locked.
func (a *announcer) userLeft(user string, notice *wire.Frames) {
	if notice != nil {
		a.attend(user, -1, notice, nil)
	}
}

func (a *announcer) attend(user string, nodes int32, notice *wire.Frames, except *Conn) {
	r := a.users
	if r == nil {
		a.tellAll(notice, except)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.users[user].conns
	r.shown += nodes
	r.setAttendance(user, attendance{conns: before + nodes})
	r.changedPart(user)
	if before == 0 || before+nodes == 0 {
		a.tellAll(notice, except)
	}
}

// ownUser returns a user who is here as the other nodes learn of them, or nil. The room of all users
// is locked.
func (a *announcer) ownUser(user string) *parts.Member {
	if a.users.users[user].conns > a.users.elsewhere[user] {
		return &parts.Member{User: user}
	}
	return nil
}

// ownUsers returns all users who are here.
func (a *announcer) ownUsers() map[string]*parts.Member {
	all := make(map[string]*parts.Member, a.users.shown)
	for user := range a.users.users {
		if m := a.ownUser(user); m != nil {
			all[user] = m
		}
	}
	return all
}

// tellAll sends a notice to all connections except one.
func (a *announcer) tellAll(notice *wire.Frames, except *Conn) {
	n := 0
	var wakeups sendqueue.Wakeups
	defer wakeups.Flush()
	a.m.conns.everyone.order.Lock()
	defer a.m.conns.everyone.order.Unlock()
	a.m.conns.everyone.walk(func(c *Conn) {
		if c != except {
			n++
			c.push(&wakeups, notice, sendqueue.Notice, sendqueue.DropNewest)
		}
	})
	notice.Settle(&a.m.counters.Queues.Budget)
	a.m.counters.Add(metrics.Matched, n)
}
