package realtime

import (
	"sync"

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

	mu      sync.Mutex
	waiting []announcement // with other nodes, in their order
	telling bool
}

// announcement is a notice that waits: a node that is gone may have had many users, and what is told of
// them must not hold up those who come and go.
type announcement struct {
	message func(user string) broker.Message
	user    string
	except  *Conn
}

// newAnnouncer requires that the Manager has its node and its rooms.
func newAnnouncer(m *Manager) *announcer {
	a := &announcer{m: m}
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

// encode encodes a notice about a user, or returns nil if there are none about users, or if it is told
// later.
func (a *announcer) encode(message func(user string) broker.Message, user string) *wire.Frames {
	if !a.m.opts.AnnounceUsers || a.users != nil {
		return nil
	}
	return a.encodeNow(message, user)
}

func (a *announcer) encodeNow(message func(user string) broker.Message, user string) *wire.Frames {
	f := &wire.Frames{Message: message(user)}
	a.m.speakers.Encode(f)
	return f
}

// userCame notes that a user has a first connection c here. It sends the notice to all others, unless
// the user is at another node. The user is locked.
func (a *announcer) userCame(user string, notice *wire.Frames, c *Conn) {
	switch {
	case a.users != nil:
		a.attend(1, announcement{wire.UserJoined, user, c})
	case notice != nil:
		a.tellAll(notice, c)
	}
}

// userLeft notes that a user has no connection here any more. It sends the notice to all, unless the
// user is at another node. The user is locked.
func (a *announcer) userLeft(user string, notice *wire.Frames) {
	switch {
	case a.users != nil:
		a.attend(-1, announcement{wire.UserLeft, user, nil})
	case notice != nil:
		a.tellAll(notice, nil)
	}
}

// attend notes that a user is at one node more, or less: this one.
func (a *announcer) attend(nodes int32, of announcement) {
	r := a.users
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.users[of.user].conns
	r.setAttendance(of.user, attendance{conns: before + nodes})
	r.changedPart(of.user)
	if before == 0 || before+nodes == 0 {
		a.tellLater(of)
	}
}

// tellLater sends a notice to all connections after those before it. The room of all users is locked.
func (a *announcer) tellLater(of announcement) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting = append(a.waiting, of); !a.telling {
		a.telling = true
		a.m.broker.Go(a.tell)
	}
}

func (a *announcer) tell() {
	for {
		a.mu.Lock()
		some := a.waiting
		a.waiting = nil
		a.telling = len(some) > 0
		a.mu.Unlock()
		if len(some) == 0 {
			return
		}
		for _, of := range some {
			a.tellAll(a.encodeNow(of.message, of.user), of.except)
		}
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
	all := map[string]*parts.Member{}
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
