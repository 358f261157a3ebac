package realtime

import (
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/realtime-go/realtime/internal/admission"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/timerwheel"
	"github.com/realtime-go/realtime/internal/transport"
	"github.com/realtime-go/realtime/internal/wire"
)

// maxDetached bounds how many connections are absent. One more is gone at once.
const maxDetached = 100_000

// errResumed is why a connection ends whose client has come back over another one.
var errResumed = errors.New("realtime: resumed by another connection")

// detached keep the places of connections that were lost, for a time: whoever comes back with the
// token that the connection was given goes on where it was, and nobody else notices.
//
// A token is the connection's id with a code that only this process can make (HMAC, RFC 2104), so
// that none need be kept. It is good once, since it goes with the place.
type detached struct {
	m      *Manager
	grace  time.Duration // zero: nobody is absent
	budget *sendqueue.Budget
	key    [sha256.Size]byte
	n      atomic.Int64
	bytes  atomic.Int64 // that they take
}

func newDetached(m *Manager) *detached {
	a := &detached{m: m, grace: m.opts.Timeouts.Resume, budget: &m.counters.Queues.Budget}
	_, _ = rand.Read(a.key[:]) // it never fails
	return a
}

// token returns what a client resumes its session with, empty if it cannot.
func (a *detached) token(c *Conn) string {
	if a.grace == 0 || c.proto != wire.ProtoV1 {
		return ""
	}
	return c.id + "." + a.code(c.id)
}

func (a *detached) code(id string) string {
	mac := hmac.New(sha256.New, a.key[:])
	mac.Write([]byte(id))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
}

// lost reports whether a connection ended in such a way that its client may come back for it.
func lost(why *CloseError) bool {
	switch why.Cause {
	case CauseLost, CauseTimeout, CauseSlow:
		return true
	case CauseClient:
		return why.Code == CloseSlow // it is behind, and comes back at once
	}
	return why.Err == errResumed
}

// keep makes a connection absent that was lost, and reports false if it is to be cleaned up after
// now.
func (a *detached) keep(c *Conn, why *CloseError) bool {
	if a.grace == 0 || c.proto != wire.ProtoV1 || !lost(why) || a.m.capacity.Closed() {
		return false
	}
	if a.full() && why.Err != errResumed { // that one is taken the place of at once
		return c.absent() // those that are may come back nevertheless
	}
	was := a.detach(c)
	if was == live {
		a.n.Add(1)
		a.bytes.Add(c.away)
		a.budget.Hold(c.away)
		end := &timerwheel.Timer{Fire: func() { a.m.background.Go(func() { a.expire(c) }) }}
		a.m.wheel.Set(end, a.grace)
	}
	return was == live || was == absent
}

// full reports whether nobody else may be absent. They have a part of the budget, so that they are
// no reason to end those that are here.
func (a *detached) full() bool {
	return a.n.Load() >= maxDetached || a.budget.Pressed() ||
		a.budget.Limit > 0 && a.bytes.Load() >= a.budget.Limit/4
}

// expire ends an absence whose time is over.
func (a *detached) expire(c *Conn) {
	if a.end(c) {
		a.m.inboxes.connGone(c)
	}
}

// end ends an absence, and reports false if it has ended.
func (a *detached) end(c *Conn) bool {
	if a.m.conns.remove(c) != absent {
		return false
	}
	a.over(c)
	return true
}

func (a *detached) over(c *Conn) {
	a.n.Add(-1)
	a.bytes.Add(-c.away)
	a.budget.Hold(-c.away)
	a.m.conns.byID.CompareAndDelete(c.id, c)
}

// endAll ends all absences. None may begin any more.
func (a *detached) endAll() {
	for _, c := range a.m.conns.byID.Values() {
		a.end(c)
	}
}

// find returns the connection that a token is for, if it was of the same user as c, and sees to it
// that it is absent: one that does not know yet that its client is gone ends now.
func (a *detached) find(c *Conn, token string) (*Conn, error) {
	id, code, _ := strings.Cut(token, ".")
	if subtle.ConstantTimeCompare([]byte(code), []byte(a.code(id))) == 0 {
		return nil, errSession
	}
	old, ok := a.m.conns.byID.Get(id)
	if !ok || old == c || old.UserID() != c.UserID() {
		return nil, errSession
	}
	old.session.End(&CloseError{
		Cause: CauseReplaced, Code: CloseReplaced, Reason: "resumed by another connection",
		Err: errResumed,
	}, transport.CloseGrace)
	if !a.keep(old, old.session.Why()) {
		return nil, errSession
	}
	return old, nil
}

// resume gives a connection the place of the one that a token is for, as far as may says yes, and
// returns the rooms that it is in then.
func (a *detached) resume(c *Conn, token string, may func(room string) bool) ([]string, error) {
	began := a.m.revocations.Begin()
	defer a.m.revocations.End()
	old, err := a.find(c, token)
	if err != nil {
		return nil, err
	}
	refused := make(map[string]bool)
	rooms := old.askedFor()
	c.session.Bill().Decisions(len(rooms))
	for _, room := range rooms {
		refused[room] = !may(room)
	}
	if !a.takeOver(c, old, func(room string) bool {
		return !refused[room] && a.m.revocations.Check(began, admission.Subject{User: c.UserID(), Room: room}) == nil
	}) {
		return nil, errSession
	}
	a.over(old)
	a.m.counters.Add(metrics.Resumed, 1)
	return c.Rooms(), nil
}

// detachedBytes is about what an absent connection takes, and placeBytes what each of its rooms does.
const (
	detachedBytes = 2 << 10
	placeBytes    = 256
)

// detach makes a live connection that has ended absent: nothing is given to it any more, and
// everybody still sees it. It returns what the connection was.
func (a *detached) detach(c *Conn) (was phase) {
	var u *user
	if id := c.UserID(); id != "" {
		u = a.m.users.enter(id)
		defer a.m.users.leave(u)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if was = c.phase; was != live {
		return was
	}
	c.phase = absent
	c.away = detachedBytes + placeBytes*int64(c.rooms.n)
	for m := c.rooms.newest; m != nil; m = m.older {
		r := a.m.rooms.find(m.room)
		r.detach(m)
		r.mu.Unlock()
	}
	a.m.conns.everyone.remove(c)
	a.m.counters.Closed()
	if u != nil {
		a.m.users.detach(u, c)
	}
	return was
}

// takeOver gives a connection the rooms of an absent one of the same user, which it takes the
// place of: nobody is told. It leaves those that may says no to, or for which there is no place.
// It reports false if the other is not absent any more.
func (a *detached) takeOver(c, old *Conn, may func(room string) bool) (ok bool) {
	if id := c.UserID(); id != "" {
		u := a.m.users.enter(id)
		defer a.m.users.leave(u)
		notice := a.m.announcer.userNotice(wire.UserLeft, id)
		defer func() {
			if ok && a.m.users.forget(u, old) { // c has departed already
				a.m.announcer.tellAll(notice, nil)
			}
		}()
	}
	var left inheritance
	if left, ok = old.giveUpRooms(); ok {
		c.follow(old)
		a.transfer(c, &left, may)
	}
	return ok
}

// inheritance is what a connection that is no more leaves to the one that takes its place.
type inheritance struct {
	places []*membership // in order of joining
	rest   string        // its REST room
	guest  string        // what told it from other anonymous ones
}

// transfer gives a connection what another has left.
func (a *detached) transfer(c *Conn, left *inheritance, may func(room string) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.guest = cmp.Or(left.guest, c.guest)
	for _, m := range left.places {
		notice := a.m.announcer.roomNotice(wire.RoomLeft, m.conn, m.room)
		r := a.m.rooms.find(m.room)
		if a.mayTake(c, m.room) && may(m.room) {
			heir := &membership{conn: c, room: m.room, asked: m.asked, absent: c.phase == absent}
			c.rooms.add(heir)
			r.replace(m, heir)
			a.m.joins.beginTransferred(heir, r)
		} else {
			r.remove(m, notice)
		}
		a.m.rooms.leave(r)
	}
	if c.rooms.apiRoom == "" && c.rooms.find(left.rest) != nil {
		c.rooms.apiRoom = left.rest
	}
}

// mayTake reports whether a connection may take a place in a room, also one that has ended meanwhile:
// then it is cleaned up after, or kept for the next one. c.mu is held.
func (a *detached) mayTake(c *Conn, room string) bool {
	return c.phase != gone && c.rooms.find(room) == nil && (a.m.opts.Limits.RoomsPerConn == 0 || c.rooms.n < a.m.opts.Limits.RoomsPerConn)
}

// giveUpRooms takes what it leaves from an absent connection, which is gone then.
func (c *Conn) giveUpRooms() (left inheritance, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != absent {
		return inheritance{}, false
	}
	c.phase = gone
	left = inheritance{rest: c.rooms.apiRoom, guest: c.guest}
	for m := c.rooms.newest; m != nil; m = m.older {
		left.places = append(left.places, m)
	}
	slices.Reverse(left.places)
	c.rooms = memberships{}
	return left, true
}
