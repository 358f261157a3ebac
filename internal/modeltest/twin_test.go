package modeltest

import (
	"slices"
	"time"

	"github.com/realtime-go/realtime"
)

// The limits are small, so that random steps reach them.
const (
	maxConns   = 8
	maxDevices = 3 // connections of one user
	maxRooms   = 3 // rooms of one connection
)

// twin is a hub for eight connections: a list that is searched from the beginning for every
// question, without locks.
type twin struct {
	peers []*peer // in the order of opening
	stats realtime.Stats
	sent  []time.Time // when each message was sent
}

// peer is a connection of the twin.
type peer struct {
	id       string
	user     string   // empty: anonymous
	live     bool     // open, and OnConnect has returned
	rooms    []string // in the order of joining
	rest     string   // the REST room, or empty
	expected []string // the frames that the connection must receive in this step
}

func (p *peer) in(room string) bool { return slices.Contains(p.rooms, room) }

// expect predicts a frame.
func (w *twin) expect(p *peer, frame string) {
	p.expected = append(p.expected, frame)
	w.stats.Matched++
	w.stats.Written++
}

func (w *twin) expectAll(frame string, except *peer) {
	for _, p := range w.peers {
		if p.live && p != except {
			w.expect(p, frame)
		}
	}
}

func (w *twin) expectRoom(room, frame string) {
	for _, p := range w.peers {
		if p.in(room) {
			w.expect(p, frame)
		}
	}
}

// devices returns the live connections of a user, in a room if room is not empty.
func (w *twin) devices(user, room string) (found []*peer) {
	for _, p := range w.peers {
		if p.live && user != "" && p.user == user && (room == "" || p.in(room)) {
			found = append(found, p)
		}
	}
	return found
}

// full reports whether a further connection is refused.
func (w *twin) full(user string) bool {
	return len(w.peers) >= maxConns || len(w.devices(user, "")) >= maxDevices
}

// register adds a connection before OnConnect.
func (w *twin) register(id, user string) *peer {
	p := &peer{id: id, user: user}
	w.peers = append(w.peers, p)
	w.expect(p, welcomeFrame(id))
	return p
}

// enter makes a registered connection live. Its joins so far are announced now.
func (w *twin) enter(p *peer) {
	first := p.user != "" && len(w.devices(p.user, "")) == 0
	p.live = true
	w.stats.Accepted++
	w.stats.Conns++
	w.stats.PeakConns = max(w.stats.PeakConns, w.stats.Conns)
	w.stats.Updated = time.Now()
	if first {
		w.expectAll(userJoinedFrame(p.user), p)
	}
	for _, room := range p.rooms {
		w.show(p, room)
	}
}

// refuse removes a registered connection, which does not even receive its welcome.
func (w *twin) refuse(p *peer) {
	w.forget(p)
	w.stats.Written -= uint64(len(p.expected))
	w.stats.Lost += uint64(len(p.expected))
	w.stats.Ended.Refused++
	p.expected = nil
}

func (w *twin) forget(p *peer) {
	w.peers = slices.DeleteFunc(w.peers, func(q *peer) bool { return q == p })
}

// end ends a live connection: it leaves its rooms, newest first, and then ends.
func (w *twin) end(p *peer, cause realtime.Cause) {
	switch cause {
	case realtime.CauseClient:
		w.stats.Ended.Client++
	case realtime.CauseLost:
		w.stats.Ended.Lost++
	case realtime.CauseServer:
		w.stats.Ended.Server++
	}
	for len(p.rooms) > 0 {
		w.leave(p, p.rooms[len(p.rooms)-1])
	}
	w.forget(p)
	w.stats.Conns--
	w.stats.Updated = time.Now()
	if p.user != "" && len(w.devices(p.user, "")) == 0 {
		w.expectAll(userLeftFrame(p.user), nil)
	}
}

func (w *twin) join(p *peer, room string) (joined bool, err error) {
	if p.in(room) {
		return false, nil
	}
	if len(p.rooms) >= maxRooms {
		return false, realtime.ErrTooManyRooms
	}
	p.rooms = append(p.rooms, room)
	if p.live {
		w.show(p, room)
	}
	return true, nil
}

// show announces a join: to the room if it is the user's first device there, and otherwise to that
// device alone.
func (w *twin) show(p *peer, room string) {
	if len(w.devices(p.user, room)) > 1 {
		w.expect(p, roomJoinFrame(p.user, room))
		return
	}
	w.expectRoom(room, roomJoinFrame(p.user, room))
}

func (w *twin) leave(p *peer, room string) (left bool) {
	if !p.in(room) {
		return false
	}
	p.rooms = slices.DeleteFunc(p.rooms, func(r string) bool { return r == room })
	if p.rest == room {
		p.rest = ""
	}
	if len(w.devices(p.user, room)) == 0 {
		w.expectRoom(room, roomLeaveFrame(p.user, room))
	}
	return true
}

// restJoin is the join of the REST interface, which leaves the previous REST room.
func (w *twin) restJoin(p *peer, room string) error {
	if p.rest == room {
		return nil
	}
	if p.rest != "" {
		w.leave(p, p.rest)
	}
	joined, err := w.join(p, room)
	if joined {
		p.rest = room
	}
	return err
}

func (w *twin) restLeave(p *peer) {
	if p.rest != "" {
		w.leave(p, p.rest)
	}
}

// chat handles a chat of a client.
func (w *twin) chat(p *peer, text, target string) {
	w.stats.Received++
	to := realtime.ToUser(target)
	switch {
	case target == "all":
		to = realtime.ToAll()
	case target == "room" && len(p.rooms) == 0:
		to = realtime.ToRoom("general")
	case target == "room":
		to = realtime.ToRoom(p.rooms[len(p.rooms)-1])
	}
	if forbidden(p.user, to) {
		w.stats.Denied++
		return
	}
	w.send(to, chatFrame(p.user, text))
}

// noise handles any other message of a client.
func (w *twin) noise(p *peer, ping bool) {
	w.stats.Received++
	if ping {
		w.expect(p, pongFrame)
	} else {
		w.stats.Ignored++
	}
}

// send sends a message of the application, and returns the result.
func (w *twin) send(to realtime.Target, frame string) realtime.Result {
	result := realtime.Result{}
	for _, p := range w.peers {
		if w.means(to, p) {
			w.expect(p, frame)
			result.Matched++
			result.Queued++
		}
	}
	for i, user := range to.Users {
		if !slices.Contains(to.Users[:i], user) && len(w.devices(user, "")) == 0 {
			result.Offline++
		}
	}
	w.sent = append(w.sent, time.Now())
	w.stats.Messages++
	w.stats.Updated = time.Now()
	return result
}

// means reports whether p is among the receivers of a target.
func (w *twin) means(to realtime.Target, p *peer) bool {
	if slices.Contains(to.ExceptConns, p.id) ||
		p.user != "" && slices.Contains(to.ExceptUsers, p.user) {
		return false
	}
	return to.All && p.live ||
		slices.ContainsFunc(to.Rooms, p.in) ||
		p.user != "" && p.live && slices.Contains(to.Users, p.user) ||
		slices.Contains(to.Conns, p.id)
}

// members returns the roster of a room.
func (w *twin) members(room string) (users []string, conns int) {
	users = []string{}
	for _, p := range w.peers {
		if !p.live || !p.in(room) {
			continue
		}
		conns++
		if p.user != "" && !slices.Contains(users, p.user) {
			users = append(users, p.user)
		}
	}
	slices.Sort(users)
	return users, conns
}

// snapshot returns the statistics. The twin counts the gauges anew each time.
func (w *twin) snapshot() realtime.Stats {
	s := w.stats
	var users, rooms []string
	for _, p := range w.peers {
		if p.user != "" {
			users = append(users, p.user)
		}
		rooms = append(rooms, p.rooms...)
	}
	s.Users, s.Rooms = distinct(users), distinct(rooms)
	recent := 0
	for _, at := range w.sent {
		if tenth(at) > tenth(time.Now())-100 {
			recent++
		}
	}
	s.Rate = float64(recent) / 10
	return s
}

// tenth returns the time in units of the resolution of the rate.
func tenth(t time.Time) int64 { return t.UnixMilli() / 100 }

func distinct(names []string) int {
	slices.Sort(names)
	return len(slices.Compact(names))
}
