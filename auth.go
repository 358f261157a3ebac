package realtime

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/realtime-go/realtime/internal/names"
	"github.com/realtime-go/realtime/internal/timerwheel"
	"github.com/realtime-go/realtime/internal/wire"
)

// ActionKind is what a client or a REST caller wants to do.
type ActionKind string

// The kinds of actions. A client needs leave for all that it asks for: also to leave a room.
const (
	ActionSend    ActionKind = "send"    // Target says to whom
	ActionJoin    ActionKind = "join"    // put the connection Conn into Room
	ActionLeave   ActionKind = "leave"   // take Conn out of Room, of its REST room if that is empty
	ActionMembers ActionKind = "members" // list the users of Room
	ActionStats   ActionKind = "stats"   // read the statistics
	ActionCall    ActionKind = "call"    // call Method
	// ActionHistory is to read what Room has kept, and to join it from a position on, or to go back to
	// one after the application has joined the connection: without permission for that it gets what
	// comes from then on, and its client is told of a gap.
	ActionHistory ActionKind = "history"
)

// Action is something that a client or a REST caller has asked for and that is done
// only if an authorizer allows it.
type Action struct {
	Kind   ActionKind
	Room   string // of join, leave, members and history
	Conn   string // of join and leave: the id of the connection
	Target Target // of send
	Method string // of call
}

// Authorizer decides about an action of the client behind c. Any error refuses it.
// ctx is the connection's. It may block: only this connection waits.
type Authorizer func(ctx context.Context, c *Conn, a Action) error

// RequestAuthorizer decides about an action of the caller of the REST handler. Any
// error refuses it. A connection id proves nothing about who calls.
type RequestAuthorizer func(r *http.Request, a Action) error

// InsecureQueryUser is an Options.Authenticate that believes the user_id of the query
// string: anybody can be anybody. For demonstrations and for tests. Without a
// user_id the connection is anonymous.
func InsecureQueryUser(r *http.Request) (Identity, error) {
	return Identity{UserID: r.URL.Query().Get("user_id")}, nil
}

// InsecureAllowAll is an Options.Authorize that lets every client send anything to
// anybody. For demonstrations and for tests.
func InsecureAllowAll(context.Context, *Conn, Action) error { return nil }

// InsecureAllowRequests is a RequestAuthorizer for [Manager.API] that lets everybody
// move any connection into any room and see who is where. For demonstrations and for
// tests.
func InsecureAllowRequests(*http.Request, Action) error { return nil }

// Identity is who is behind a connection, as Options.Authenticate found out.
type Identity struct {
	// UserID names the user. Connections with the same id are the same user's
	// devices. Empty means anonymous: such a connection is never announced when it
	// opens or ends, and only rooms, ToAll and ToConn reach it.
	UserID string
	// ExpiresAt is until when this holds, as of a token or a session. Then
	// Options.Revalidate is asked, and a connection that is not renewed is closed with code
	// 4401: a client that has no token to renew, but a cookie, stays away then, unless
	// Revalidate looks the session up itself. How long that is gets measured once, when the
	// connection opens or is renewed: a clock that is set later neither shortens nor extends it.
	// Zero means for as long as the connection lasts.
	ExpiresAt time.Time
	// Device names the device, for users each of whose devices has its own place in their inbox,
	// see InboxOptions.PerDevice: a random name that the device keeps. Rules of [ValidName].
	Device string
	// Data is whatever the application wants at hand, see [Conn.Identity].
	Data any
}

func (id Identity) expired(now time.Time) bool {
	return !id.ExpiresAt.IsZero() && !now.Before(id.ExpiresAt)
}

// deadline is ExpiresAt as so much time from now on, which no step of the wall clock moves.
func (id Identity) deadline(now time.Time) time.Time {
	if id.ExpiresAt.IsZero() {
		return time.Time{}
	}
	return now.Add(id.ExpiresAt.Sub(now))
}

// validate returns an error that matches ErrInvalidName or ErrUnauthenticated.
func (id Identity) validate() error {
	if id.expired(time.Now()) {
		return ErrUnauthenticated
	}
	if id.Device != "" {
		if err := ValidName(id.Device); err != nil {
			return fmt.Errorf("device: %w", err)
		}
	}
	if id.UserID == "" {
		return nil
	}
	return names.CheckUser(id.UserID)
}

// expiry ends a connection whose identity is no longer good. The wheel of the Manager comes
// by when it expires, tries to have it renewed, and comes by again when the time for that is
// over.
type expiry struct {
	m     *Manager
	c     *Conn
	timer timerwheel.Timer
}

// watchExpiry looks after the identity that the connection has now.
func (c *Conn) watchExpiry() {
	if c.expiry.Load() == nil && !c.deadline().IsZero() {
		e := &expiry{m: c.m, c: c}
		e.timer.Fire = e.look
		c.expiry.CompareAndSwap(nil, e)
	}
	if e := c.expiry.Load(); e != nil {
		e.watch()
	}
}

// renew asks the application for a newer identity of the connection's user.
func (ss *registry) renew(c *Conn, token string) error {
	if ss.m.opts.Revalidate == nil {
		return ErrForbidden
	}
	id, err := ss.m.opts.Revalidate(c.session.Context(), c, token)
	if err != nil {
		ss.m.log.Log(c.session.Context(), slog.LevelDebug, c.source(), "realtime: identity not renewed",
			slog.String("conn", c.id), slog.Any("error", err))
		return ErrForbidden
	}
	return c.Renew(id)
}

// watch looks after the identity that the connection has now.
func (e *expiry) watch() {
	at := e.c.deadline()
	if at.IsZero() || e.c.session.Ended() {
		e.stop()
		return
	}
	e.m.wheel.Set(&e.timer, time.Until(at))
	if e.c.session.Ended() { // and stop was called in between
		e.stop()
	}
}

func (e *expiry) stop() { e.m.wheel.Stop(&e.timer) }

// look runs in the goroutine of the wheel.
func (e *expiry) look() {
	at := e.c.deadline()
	late := time.Since(at)
	switch {
	case at.IsZero() || e.c.session.Ended():
	case late < 0:
		e.m.wheel.Set(&e.timer, -late)
	case late >= e.m.opts.Timeouts.Expiry:
		e.c.session.Expel(CauseExpired, CloseExpired, "identity expired")
	default:
		e.c.run(e.expired)
		e.m.wheel.Set(&e.timer, e.m.opts.Timeouts.Expiry-late)
	}
}

// expired asks the application for another identity, or else the client for another token.
func (e *expiry) expired() {
	if e.c.session.Ended() {
		return
	}
	err := e.c.guard(func() error { return e.m.registry.renew(e.c, "") })
	if err != nil && e.c.proto == wire.ProtoV1 {
		e.c.answer(wire.Reply(nil, nil, &wire.Error{Code: wire.CodeExpired, Message: "identity expired"}))
	}
}

const (
	// ticketTime is for how long a ticket is good.
	ticketTime = 30 * time.Second
	// maxTickets bounds how many are out, and maxUserTickets how many of one user. Those for
	// anonymous connections may be half of all.
	maxTickets          = 100_000
	maxUserTickets      = 100
	maxAnonymousTickets = maxTickets / 2
)

// Tickets are passwords that open one connection, within 30 seconds. A page cannot send a
// header with its WebSocket. So it asks for a ticket first, by an ordinary request that the
// application authenticates as it does all others, and connects with ?ticket=…: what the
// logs of proxies keep of that is worth nothing any more. Each attempt to connect takes one.
//
// The zero value is ready. Tickets are this process's own. All methods are safe for
// concurrent use and do not block.
type Tickets struct {
	mu     sync.Mutex
	out    map[string]*ticket
	byUser map[string]int // how many are out
	order  []*ticket      // in the order of their ends, with those that are used up
}

type ticket struct {
	name  string
	id    Identity
	until time.Time
}

// Issue returns a ticket for a connection of id, to be used in a URL as it is. It returns
// ErrOverloaded while 100,000 are out, or 100 of the same user, or 50,000 for anonymous
// connections.
func (ts *Tickets) Issue(id Identity) (string, error) {
	t := &ticket{name: rand.Text(), id: id}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	now := time.Now()
	ts.expire(now)
	limit := maxUserTickets
	if id.UserID == "" {
		limit = maxAnonymousTickets
	}
	if len(ts.out) >= maxTickets || ts.byUser[id.UserID] >= limit {
		return "", ErrOverloaded
	}
	if ts.out == nil {
		ts.out, ts.byUser = make(map[string]*ticket), make(map[string]int)
	}
	t.until = now.Add(ticketTime)
	ts.out[t.name], ts.order = t, append(ts.order, t)
	ts.byUser[id.UserID]++
	return t.name, nil
}

// expire forgets a few of the oldest tickets, if they are over or used up: more than one Issue
// adds, so that none has to forget many. ts.mu is held.
func (ts *Tickets) expire(now time.Time) {
	for range 4 {
		if len(ts.order) == 0 {
			ts.order = nil // and the memory that it had
			return
		}
		t := ts.order[0]
		if ts.out[t.name] != nil && now.Before(t.until) {
			return
		}
		ts.order[0] = nil
		ts.order = ts.order[1:]
		ts.take(t)
	}
}

// take makes a ticket one that is used up. ts.mu is held.
func (ts *Tickets) take(t *ticket) {
	if ts.out[t.name] == nil {
		return
	}
	if delete(ts.out, t.name); len(ts.out) == 0 {
		ts.out, ts.byUser = nil, nil // maps keep the memory that they had
	} else if ts.byUser[t.id.UserID]--; ts.byUser[t.id.UserID] == 0 {
		delete(ts.byUser, t.id.UserID)
	}
	t.id = Identity{} // what is used up may wait for those before it
}

// Authenticate is an Options.Authenticate that takes the ticket in the query. It returns
// ErrUnauthenticated without a good one.
func (ts *Tickets) Authenticate(r *http.Request) (Identity, error) {
	name := r.URL.Query().Get("ticket")
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.out[name]
	if t == nil {
		return Identity{}, ErrUnauthenticated
	}
	id := t.id
	if ts.take(t); !time.Now().Before(t.until) {
		return Identity{}, ErrUnauthenticated
	}
	return id, nil
}

// BearerToken returns the token that a request carries, or an empty string: that of the
// header "Authorization: Bearer …", which programs send, or of a subprotocol "bearer.…",
// which a page can ask for beside "realtime.v1":
//
//	new WebSocket(url, ["realtime.v1", "bearer." + token])
//
// A token may have the characters of a JWT or of base64url there. It is not checked.
func BearerToken(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	for _, offers := range r.Header.Values("Sec-WebSocket-Protocol") {
		for offer := range strings.SplitSeq(offers, ",") {
			if token, ok := strings.CutPrefix(strings.TrimSpace(offer), "bearer."); ok {
				return token
			}
		}
	}
	return ""
}
