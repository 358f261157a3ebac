package realtime

import (
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/realtime-go/realtime/internal/admission"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/state"
	"github.com/realtime-go/realtime/internal/timerwheel"
	"github.com/realtime-go/realtime/internal/transport"
	"github.com/realtime-go/realtime/internal/wire"
)

// maxDetached bounds the number of detached sessions.
const maxDetached = 100_000

// errResumed is the Err of the CloseError of a connection whose client resumed its session over
// another one.
var errResumed = errors.New("realtime: resumed by another connection")

// detached keeps the sessions of connections that were lost, for a time. A client that has the
// token of such a connection can resume its session, and no notice is sent.
//
// A token is the id of the connection and a code that only this process can make (HMAC, RFC 2104),
// so tokens need not be stored. A token is valid once, because the resumed session belongs to a
// connection with another id.
type detached struct {
	m      *Manager
	grace  time.Duration // zero: no sessions are kept
	budget *sendqueue.Budget
	key    [sha256.Size]byte
	n      atomic.Int64 // detached sessions
	bytes  atomic.Int64 // memory that they take
}

func newDetached(m *Manager) *detached {
	d := &detached{m: m, grace: m.opts.Timeouts.Resume, budget: &m.counters.Queues.Budget}
	_, _ = rand.Read(d.key[:]) // never fails
	return d
}

// token returns the token with which a client can resume its session, or "" if it cannot.
func (d *detached) token(c *Conn) string {
	if d.grace == 0 || c.proto != wire.ProtoV1 {
		return ""
	}
	return c.id + "." + d.code(c.id)
}

// code returns the code of the token for the connection with this id.
func (d *detached) code(id string) string {
	mac := hmac.New(sha256.New, d.key[:])
	mac.Write([]byte(id))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
}

// resumable reports whether a client may resume the session of a connection that ended like this.
func resumable(why *CloseError) bool {
	switch why.Cause {
	case CauseLost, CauseTimeout, CauseSlow:
		return true
	case CauseClient: // it could not keep up and reconnects at once, or its page may be reloaded
		return why.Code == CloseSlow || why.Code == CloseAway
	}
	return why.Err == errResumed
}

// graceOf returns how long the session of a connection that ended like this is kept. A page that is
// closed or reloaded says the same, 1001, and a reload takes a short time.
func (d *detached) graceOf(why *CloseError) time.Duration {
	if why.Cause == CauseClient && why.Code == CloseAway {
		return d.grace / 3
	}
	return d.grace
}

// keep detaches the session of a connection that has ended, and reports whether the session is
// detached now. If it is not, the caller must clean up.
func (d *detached) keep(c *Conn, why *CloseError) bool {
	if d.grace == 0 || c.proto != wire.ProtoV1 || !resumable(why) || d.m.capacity.Closed() {
		return false
	}
	// A session that is being resumed needs no space: the new connection takes it over at once.
	if d.full() && why.Err != errResumed {
		return c.isDetached() // a session that is detached already stays
	}
	was, excess := d.detach(c, why)
	if was == live {
		d.n.Add(1)
		d.bytes.Add(int64(c.detachedMemory))
		d.budget.Hold(int64(c.detachedMemory))
		d.setTimer(c, d.graceOf(why))
	}
	for _, old := range excess {
		d.expire(old)
	}
	return (was == live || was == detachedPhase) && !slices.Contains(excess, c)
}

// awayAfter is how long a session is detached before others see that its member is away: a client
// that reconnects at once causes no change.
const awayAfter = 3 * time.Second

// setTimer sets the timer of a session that is detached now.
func (d *detached) setTimer(c *Conn, grace time.Duration) {
	t, wait := &timerwheel.Timer{}, grace
	end := func() { d.m.background.Go(func() { d.expire(c) }) }
	t.Fire = end
	if grace > awayAfter {
		wait = awayAfter
		t.Fire = func() {
			t.Fire = end
			d.m.wheel.Set(t, grace-awayAfter)
			d.m.background.Go(func() { d.m.sessionAway(c) })
		}
	}
	d.m.wheel.Set(t, wait)
}

// withGrace returns why with the time for which the client may resume the session, which is
// detached. If another connection resumes it already, that time does not matter, and is zero.
func (d *detached) withGrace(why *CloseError) *CloseError {
	known := *why
	if why.Err != errResumed {
		known.Grace = d.graceOf(why)
	}
	return &known
}

// full reports whether no other session may be detached. Detached sessions have a part of the
// budget only, so that connections are not ended because of them.
func (d *detached) full() bool {
	return d.n.Load() >= maxDetached || d.budget.Pressed() ||
		d.budget.Limit > 0 && d.bytes.Load() >= d.budget.Limit/4
}

// expire ends a detached session whose time is over.
func (d *detached) expire(c *Conn) {
	if d.end(c) {
		d.m.inboxes.connGone(c)
	}
}

// end removes a connection that has ended, and reports whether its session was detached.
func (d *detached) end(c *Conn) bool {
	if d.m.conns.remove(c) != detachedPhase {
		return false
	}
	d.forget(c)
	return true
}

// forget gives back what a detached session took, and makes its token invalid.
func (d *detached) forget(c *Conn) {
	d.n.Add(-1)
	d.bytes.Add(-int64(c.detachedMemory))
	d.budget.Hold(-int64(c.detachedMemory))
	d.m.conns.byID.CompareAndDelete(c.id, c)
}

// endAll ends all detached sessions. The caller ensures that no other session is detached later.
func (d *detached) endAll() {
	for _, c := range d.m.conns.byID.Values() {
		d.end(c)
	}
}

// claim returns the connection that a token is for, if it has the same user as c. It detaches the
// session: if the loss of the connection was not noticed yet, the connection ends now.
func (d *detached) claim(c *Conn, token string) (*Conn, error) {
	id, code, _ := strings.Cut(token, ".")
	if subtle.ConstantTimeCompare([]byte(code), []byte(d.code(id))) == 0 {
		return nil, errSession
	}
	old, ok := d.m.conns.byID.Get(id)
	if !ok || old == c || old.UserID() != c.UserID() {
		return nil, errSession
	}
	old.session.End(&CloseError{
		Cause: CauseReplaced, Code: CloseReplaced, Reason: "resumed by another connection",
		Err: errResumed,
	}, transport.CloseGrace)
	if !d.keep(old, old.session.Why()) {
		return nil, errSession
	}
	return old, nil
}

// resume moves the session that a token is for to c, and returns the rooms that c is in then. It
// leaves a room that the client had asked for if may returns false for the room.
func (d *detached) resume(c *Conn, token string, may func(room string) bool) ([]string, error) {
	began := d.m.revocations.Begin()
	defer d.m.revocations.End()
	old, err := d.claim(c, token)
	if err != nil {
		return nil, err
	}
	if err := d.m.events.waitSpace(c.session.Context(), old.Rooms()...); err != nil {
		return nil, err
	}
	refused := make(map[string]bool)
	rooms := old.askedFor()
	c.session.Bill().Decisions(len(rooms))
	for _, room := range rooms {
		refused[room] = !may(room)
	}
	allowed := func(room string) bool {
		subject := admission.Subject{User: c.UserID(), Room: room}
		return !refused[room] && d.m.revocations.Check(began, subject) == nil
	}
	if !d.takeOver(c, old, allowed) {
		return nil, errSession
	}
	d.forget(old)
	d.m.counters.Add(metrics.Resumed, 1)
	return c.Rooms(), nil
}

// detachedBytes is about the memory of a detached session, and membershipBytes that of each of its
// rooms.
const (
	detachedBytes   = 2 << 10
	membershipBytes = 256
)

// detach detaches the session of a live connection that ended because of why: it gets no messages
// any more, and its user stays visible. It returns the phase in which the connection was before,
// and the detached sessions that the caller must end, because the user has too many connections.
func (d *detached) detach(c *Conn, why *CloseError) (was phase, excess []*Conn) {
	var u *user
	if id := c.UserID(); id != "" {
		u = d.m.users.lockNew(id)
		defer d.m.users.unlock(u)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if was = c.phase; was != live {
		return was, nil
	}
	c.phase = detachedPhase
	c.detachValues()
	c.keepRooms()
	c.detachedMemory = detachedBytes + membershipBytes*c.rooms.n
	for m := c.rooms.newest; m != nil; m = m.older {
		r := d.m.rooms.lock(m.room)
		r.detach(m)
		r.mu.Unlock()
	}
	d.m.conns.everyone.remove(c)
	d.m.counters.Closed()
	if u != nil {
		d.m.users.detach(u, c)
		if why.Err != errResumed { // or it is taken over at once
			excess = d.m.users.excess(u)
		}
	}
	return was, excess
}

// takeOver moves the detached session of old to c, which has the same user. No notice is sent for
// the rooms that c gets. c does not get the rooms for which allowed returns false, and those beyond
// its limit of rooms. takeOver reports false if the session of old is not detached any more.
func (d *detached) takeOver(c, old *Conn, allowed func(room string) bool) (ok bool) {
	if id := c.UserID(); id != "" {
		u := d.m.users.lockNew(id)
		defer d.m.users.unlock(u)
		notice := d.m.announcer.encode(wire.UserLeft, id)
		defer func() {
			if ok && d.m.users.forget(u, old) { // c is not live any more
				d.m.announcer.userLeft(id, notice)
			}
		}()
	}
	var s sessionState
	if s, ok = old.giveUpSession(); ok {
		c.follow(old)
		d.transfer(c, &s, allowed)
	}
	return ok
}

// sessionState is the part of a detached session that moves to the connection that resumes it.
type sessionState struct {
	memberships []*membership  // in order of joining
	apiRoom     string         // see memberships.apiRoom
	guest       string         // see Conn.guest
	values      []*state.Value // for the connection, if hadValues
	hadValues   bool
	info        json.RawMessage // see Conn.SetInfo; it belongs to the session if infoSet
	infoSet     bool
}

// transfer gives a connection the state of the session that it resumes.
func (d *detached) transfer(c *Conn, s *sessionState, allowed func(room string) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.guest = cmp.Or(s.guest, c.guest)
	if s.hadValues {
		c.addValues(s.values)
	}
	if s.infoSet && !c.infoSet {
		c.infoSet = true
		c.setInfo(s.info)
	}
	for _, m := range s.memberships {
		r := d.m.rooms.lock(m.room)
		if d.canTake(c, m.room) && allowed(m.room) {
			next := &membership{conn: c, room: m.room, asked: m.asked, detached: c.phase == detachedPhase}
			c.rooms.add(next)
			r.replace(m, next)
			d.m.joins.beginTransferred(next, r)
		} else {
			r.remove(m)
		}
		d.m.rooms.unlock(r)
	}
	if c.rooms.apiRoom == "" && c.rooms.find(s.apiRoom) != nil {
		c.rooms.apiRoom = s.apiRoom
	}
}

// canTake reports whether a connection can take over a membership of a room. A connection that has
// ended in the meantime can, unless it was cleaned up already: its clean-up removes or detaches the
// membership. c.mu is held.
func (d *detached) canTake(c *Conn, room string) bool {
	return c.phase != gone && c.rooms.find(room) == nil && !d.m.joins.atLimit(c)
}

// giveUpSession returns the state of a detached session, and ends it. It reports false if the
// session is not detached.
func (c *Conn) giveUpSession() (s sessionState, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != detachedPhase {
		return sessionState{}, false
	}
	c.phase = gone
	s = sessionState{apiRoom: c.rooms.apiRoom, guest: c.guest}
	s.values, s.hadValues = c.takeValues()
	s.info, s.infoSet = c.identity.Info, c.infoSet
	for m := c.rooms.newest; m != nil; m = m.older {
		s.memberships = append(s.memberships, m)
	}
	slices.Reverse(s.memberships)
	c.rooms = memberships{}
	return s, true
}
