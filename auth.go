package realtime

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/realtime-go/realtime/internal/names"
	"github.com/realtime-go/realtime/internal/timerwheel"
	"github.com/realtime-go/realtime/internal/wire"
)

// ActionKind is the kind of an [Action].
type ActionKind string

// The kinds of actions. A client needs permission for each of its requests, also to leave a room.
const (
	ActionSend    ActionKind = "send"    // send a message to Target; zero: to the server
	ActionJoin    ActionKind = "join"    // put the connection Conn into Room
	ActionLeave   ActionKind = "leave"   // take Conn out of Room; empty: out of its REST room
	ActionMembers ActionKind = "members" // watch the members of Room, or list them
	ActionStats   ActionKind = "stats"   // read the statistics
	ActionCall    ActionKind = "call"    // call Method
	// ActionState is to set the state that other members of Room see of the client. The application
	// does not see the state before they do; [Room.Members] has it. What the application must check
	// is a message to the server, which then calls [Conn.SetInfo] or sends a latest value.
	ActionState ActionKind = "state"
	// ActionHistory is to read kept messages of Room. A client also needs permission for it to join
	// Room from a position, or to return to a position in a room that the application joined it to.
	// Without that permission it gets only later messages, and is told of a gap; a join that asks
	// for the newest messages is refused.
	ActionHistory ActionKind = "history"
)

// Action is a request of a client or of a REST caller. It is executed only if an authorizer allows
// it.
type Action struct {
	Kind   ActionKind
	Room   string // for join, leave, members, state and history
	Conn   string // for join and leave: the id of the connection
	Target Target // for send
	Type   string // for send: the type of the message
	Method string // for call
	// Latest is for send: the key of which the message is the current value, see Message.Latest. A
	// client that may send values to a room may replace and remove those of others, and use all
	// keys. So check the key, for example that it begins with the id of the user.
	Latest string
}

// Authorizer decides about an action of the client of c. Any error refuses the action. ctx is the
// context of the connection. An Authorizer may block: only this connection waits.
type Authorizer func(ctx context.Context, c *Conn, a Action) error

// RequestAuthorizer decides about an action of the caller of the REST interface. Any error refuses
// the action. The id of a connection is no credential: it does not prove who the caller is.
type RequestAuthorizer func(r *http.Request, a Action) error

// InsecureQueryUser is an Options.Authenticate that accepts the user_id of the query string without
// a check: anybody can be anybody. Without a user_id the connection is anonymous. Use it for
// demonstrations and tests only.
func InsecureQueryUser(r *http.Request) (Identity, error) {
	return Identity{UserID: r.URL.Query().Get("user_id")}, nil
}

// InsecureAllowAll is an Options.Authorize that allows every action of every client. Use it for
// demonstrations and tests only.
func InsecureAllowAll(context.Context, *Conn, Action) error { return nil }

// InsecureAllowRequests is a RequestAuthorizer for [Manager.API] that allows every caller to move
// any connection into any room and to list the users of any room. Use it for demonstrations and
// tests only.
func InsecureAllowRequests(*http.Request, Action) error { return nil }

// Identity is the result of Options.Authenticate: the user of a connection.
type Identity struct {
	// UserID names the user. Connections with the same id are devices of the same user. Empty means
	// anonymous: such a connection is not announced when it opens or ends, and only messages to
	// rooms, to all and to its id reach it.
	UserID string
	// ExpiresAt is when the identity expires, for example because its token or session does.
	// Options.Revalidate is called then. If the identity is not renewed within Timeouts.Expiry, the
	// connection is closed with code 4401, and its client does not reconnect. A client that
	// authenticates with a cookie has no token to send: for such clients, Revalidate must look up
	// the session itself. The remaining time is measured once, when the connection opens or is
	// renewed: later changes of the clock neither shorten nor extend it. Zero: the identity does
	// not expire.
	ExpiresAt time.Time
	// Device names the device: a random name that the device keeps. It is for users each of whose
	// devices has its own place in their inbox, see InboxOptions.PerDevice. Rules of [ValidName].
	Device string
	// Info is what other clients see of the connection, next to the id of the user, in rooms that
	// show their members: any JSON of at most 1 KiB, such as a name and a picture. [Conn.SetInfo]
	// replaces it. Nil: nothing.
	Info json.RawMessage
	// Data is any data of the application, see [Conn.Identity].
	Data any
}

func (id Identity) expired(now time.Time) bool {
	return !id.ExpiresAt.IsZero() && !now.Before(id.ExpiresAt)
}

// deadline returns ExpiresAt as a time with a monotonic clock reading, so that a step of the wall
// clock does not move it.
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
	if _, err := checkInfo(id.Info); err != nil {
		return err
	}
	if id.UserID == "" {
		return nil
	}
	return names.CheckUser(id.UserID)
}

// expiry ends a connection whose identity has expired. Its timer fires when the identity expires,
// and again when the time for a renewal is over.
type expiry struct {
	m     *Manager
	c     *Conn
	timer timerwheel.Timer
}

// watchExpiry sets the timer for the identity that the connection has now.
func (c *Conn) watchExpiry() {
	if c.expiry.Load() == nil && !c.deadline().IsZero() {
		e := &expiry{m: c.m, c: c}
		e.timer.Fire = e.check
		c.expiry.CompareAndSwap(nil, e)
	}
	if e := c.expiry.Load(); e != nil {
		e.watch()
	}
}

// renew asks the application for a new identity of the connection's user.
func (ss *registry) renew(c *Conn, token string) error {
	if ss.m.opts.Revalidate == nil {
		return ErrForbidden
	}
	id, err := ss.m.opts.Revalidate(c.session.Context(), c, token)
	if err != nil {
		ss.m.log.Log(c.session.Context(), slog.LevelDebug, c.source(),
			"realtime: identity not renewed",
			slog.String("conn", c.id), slog.Any("error", err))
		return ErrForbidden
	}
	return c.Renew(id)
}

// watch sets the timer, or stops it if the identity does not expire.
func (e *expiry) watch() {
	at := e.c.deadline()
	if at.IsZero() || e.c.session.Ended() {
		e.stop()
		return
	}
	e.m.wheel.Set(&e.timer, time.Until(at))
	if e.c.session.Ended() { // the end may have called stop before Set
		e.stop()
	}
}

func (e *expiry) stop() { e.m.wheel.Stop(&e.timer) }

// check runs in the goroutine of the wheel. The deadline may have moved since the timer was set.
func (e *expiry) check() {
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

// expired asks the application for a new identity, and if it has none the client for a new token.
func (e *expiry) expired() {
	if e.c.session.Ended() {
		return
	}
	err := e.c.guard(func() error { return e.m.registry.renew(e.c, "") })
	if err != nil && e.c.proto == wire.ProtoV1 {
		expired := &wire.Error{Code: wire.CodeExpired, Message: "identity expired"}
		e.c.answer(wire.Reply(nil, nil, expired))
	}
}

// BearerToken returns the token of a request, or an empty string. It does not check the token.
// Programs send the token in the header "Authorization: Bearer …". A page sends it as a subprotocol
// "bearer.…" in addition to "realtime.v1":
//
//	new WebSocket(url, ["realtime.v1", "bearer." + token])
//
// In a subprotocol, a token may have the characters of a JWT or of base64url.
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
