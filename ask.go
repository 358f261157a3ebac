package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/realtime-go/realtime/internal/cluster"
)

// The questions of nodes to each other. Each has the same answer as the method of this process that
// it is named after.
const (
	askDeny       = "deny"
	askDisconnect = "disconnect"
	askRemove     = "remove"
	askJoin       = "join"
	askDenials    = "denials"
	askOnline     = "online"
	askMembers    = "members"
	askRoster     = "roster"
	askConns      = "conns"
	askValues     = "values"
	askParts      = "parts"
	askList       = "list"
	askJoinConn   = "join connection"
	askLeaveConn  = "leave connection"
	askRestJoin   = "rest join"
	askRestLeave  = "rest leave"
	askTicket     = "ticket"
)

// ask is the body of a question. Each question uses some of the fields.
type ask struct {
	User   string        `json:"user,omitempty"`
	Conn   string        `json:"conn,omitempty"`
	Users  []string      `json:"users,omitempty"`
	Room   string        `json:"room,omitempty"`
	Rooms  []string      `json:"rooms,omitempty"`
	For    time.Duration `json:"for,omitempty"`
	Code   CloseCode     `json:"code,omitempty"`
	Reason string        `json:"reason,omitempty"`
	Nodes  []cluster.ID  `json:"nodes,omitempty"`
	Stamp  uint64        `json:"stamp,omitempty"`
	// Buckets are those of denials.
	Buckets []int  `json:"buckets,omitempty"`
	Ticket  string `json:"ticket,omitempty"`
}

var errQuestion = errors.New("unknown question")

// answer answers a question of another node.
func (m *Manager) answer(ctx context.Context, method string, body json.RawMessage) (any, error) {
	var a ask
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, err
	}
	switch method {
	case askDeny:
		return m.denials.denyHere(&a), nil
	case askDisconnect:
		return m.disconnect(a.User, a.Code, a.Reason), nil
	case askRemove:
		return m.remove(a.Room, a.User), nil
	case askJoin:
		return m.joinUser(ctx, a.User, a.Room)
	case askDenials:
		return m.revocations.Denied(a.Buckets), nil
	case askOnline:
		return m.users.online(a.Users), nil
	case askConns:
		return len(m.User(a.User).conns()), nil
	case askRoster:
		return m.rooms.rosterOf(a.Room), nil
	case askParts:
		if len(a.Nodes) > 0 {
			return m.spread.answerOf(a.Nodes, a.Rooms), nil
		}
		return m.spread.answer(a.Rooms)
	case askList:
		return m.rooms.answerList(a.Room)
	case askValues:
		return m.rooms.encodedValues(a.Room), nil
	case askMembers:
		return m.rooms.membersOf(a.Room), nil
	case askTicket:
		return m.answerTicket(a.Ticket)
	}
	return m.answerConn(ctx, method, &a)
}

// answerConn answers a question about a connection.
func (m *Manager) answerConn(ctx context.Context, method string, a *ask) (done bool, err error) {
	c := m.Conn(a.Conn)
	if c == nil {
		return false, ErrNotFound
	}
	switch method {
	case askJoinConn:
		return c.Join(ctx, a.Room)
	case askLeaveConn:
		done, _ = m.joins.leave(c, a.Room, nil)
		return done, nil
	case askRestJoin:
		began := m.revocations.Begin()
		defer m.revocations.End()
		if slices.Contains(a.Users, c.UserID()) {
			return false, ErrDenied
		}
		return true, m.restJoin(ctx, c, a.Room, began)
	case askRestLeave:
		m.joins.apiLeave(c)
		return true, nil
	}
	return false, errQuestion
}

// answeredErrors are the errors of this package that another node may answer with.
var answeredErrors = []error{
	ErrNotFound, ErrClosed, ErrDenied, ErrTooManyRooms, ErrInvalidName, ErrUnavailable,
}

// atNode asks the node of a connection that is not in this process. It returns ErrNotFound if there
// is no such connection.
func (m *Manager) atNode(ctx context.Context, method string, a *ask) (done bool, err error) {
	id, ok := cluster.NodeOf(a.Conn)
	if !ok {
		return false, ErrNotFound
	}
	body, err := m.node.Ask(ctx, id, method, a)
	if refused, ok := errors.AsType[*cluster.RefusedError](err); ok {
		for _, known := range answeredErrors {
			if refused.Text == known.Error() {
				return false, known
			}
		}
	}
	switch {
	case errors.Is(err, cluster.ErrNoNode):
		return false, ErrNotFound
	case err != nil:
		return false, err
	}
	return done, json.Unmarshal(body, &done)
}

// everywhere asks all other nodes to do what this node has done n times, and returns how often it
// was done in all. It returns an error that names the nodes that may not have done it.
func (m *Manager) everywhere(ctx context.Context, n int, method string, a *ask) (int, error) {
	answers, err := m.node.AskAll(ctx, method, a)
	return n + sum(answers), err
}

// onlineElsewhere returns those of the users who have a connection at another node. A user of whom
// that is not known is not among them.
func (m *Manager) onlineElsewhere(ctx context.Context, users []string) (online []string) {
	answers, _ := m.node.AskUsers(ctx, users, askOnline, &ask{Users: users})
	for i := range answers {
		var some []string
		if json.Unmarshal(answers[i].Body, &some) == nil {
			online = append(online, some...)
		}
	}
	return online
}

// roster is who is in a room at one node.
type roster struct {
	Users []string `json:"users"` // sorted
	Count Count    `json:"count"`
}

// rosterOf returns who is in a room in this process.
func (rs *rooms) rosterOf(name string) (r roster) {
	r.Users = []string{}
	found := rs.lock(name)
	if found == nil {
		return r
	}
	defer found.mu.Unlock()
	r.Users, r.Count.Conns = found.roster(), int(found.shown)
	slices.Sort(r.Users)
	return r
}

// rosters returns who is in a room at any node. If some nodes do not answer, it returns the others
// and an error.
func (m *Manager) rosters(ctx context.Context, room string) (all roster, err error) {
	all = m.rooms.rosterOf(room)
	answers, err := m.node.AskRoom(ctx, room, askRoster, &ask{Room: room})
	for i := range answers {
		var one roster
		if e := json.Unmarshal(answers[i].Body, &one); e != nil {
			err = errors.Join(err, e)
		}
		all.Users = append(all.Users, one.Users...)
		all.Count.Conns += one.Count.Conns
	}
	slices.Sort(all.Users)
	all.Users = slices.Compact(all.Users)
	all.Count.Users = len(all.Users)
	return all, err
}

// sum returns the sum of answers that are numbers.
func sum(answers []cluster.Answer) (n int) {
	for i := range answers {
		var more int
		if json.Unmarshal(answers[i].Body, &more) == nil {
			n += more
		}
	}
	return n
}
