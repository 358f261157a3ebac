package realtime

import (
	"context"
	"net/http"
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
