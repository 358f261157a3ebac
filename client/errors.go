package client

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/realtime-go/realtime"
)

var (
	// ErrDisconnected is returned by a call if the connection ended before the answer. The server
	// may or may not have run the method.
	ErrDisconnected = errors.New("realtime: disconnected before the answer")
	// ErrFull is returned if too many requests wait for a connection or for an answer. See
	// DialOptions.PendingRequests and PendingBytes.
	ErrFull = errors.New("realtime: too many pending requests")
	// ErrTarget is returned for a target that is not exactly one room, user or connection, or all,
	// or the zero Target. Clients cannot name several of these, nor exceptions. The target of a
	// latest value is one room or connection.
	ErrTarget = errors.New("realtime: want one room, user or connection, all, or the zero Target")
)

// isCode reports whether err is a server's answer with this code.
func isCode(err error, code string) bool {
	e, ok := errors.AsType[*realtime.Error](err)
	return ok && e.Code == code
}

// errProtocol is the error of an attempt that reached a server without the protocol.
var errProtocol = errors.New("the server does not speak realtime.v1")

// DialError describes why an attempt to connect failed.
type DialError struct {
	Status     int           // status of the HTTP response, 0 if there was none
	Message    string        // message of the server, not to be trusted; may be empty
	RetryAfter time.Duration // wait that the server asked for; 0 if it named none
	// Err is the cause: an error of the network or of DialOptions.Token, or
	// [realtime.ErrUnauthenticated] or [realtime.ErrForbidden] for the statuses 401 and 403.
	Err error

	hasRetryAfter bool // the response has a Retry-After header
	ownFormat     bool // the response has the form of our server's errors
}

// Error returns the status and the server's message, or the cause.
func (e *DialError) Error() string {
	switch {
	case e.Status == 0 || e.Status == http.StatusSwitchingProtocols:
		return fmt.Sprintf("realtime: cannot connect: %v", e.Err)
	case e.Message == "":
		return fmt.Sprintf("realtime: cannot connect: status %d", e.Status)
	default:
		return fmt.Sprintf("realtime: cannot connect: status %d, %q", e.Status, e.Message)
	}
}

// Unwrap returns the cause.
func (e *DialError) Unwrap() error { return e.Err }

// ComeBack reports whether another attempt may have another outcome. It reports true if the server
// sent a Retry-After header. Otherwise it reports false for the statuses 400, 401, 403, 404, 405
// and 431, for an error of DialOptions.Token that matches [realtime.ErrUnauthenticated], and for a
// server that does not speak realtime.v1. Compare [realtime.CloseCode.ComeBack].
//
// A [Client] that has had a connection tries again after these too, unless the body has exactly the
// form that the server sends, {"error":"…"}: a proxy may send any response for a server that is
// being replaced.
func (e *DialError) ComeBack() bool {
	if e.hasRetryAfter {
		return true
	}
	switch e.Status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden,
		http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusRequestHeaderFieldsTooLarge:
		return false
	}
	return !errors.Is(e.Err, realtime.ErrUnauthenticated) && !errors.Is(e.Err, errProtocol)
}

// maybeProxy reports whether the refusal may come from another server, such as a proxy whose
// upstream is being replaced, because it does not have the form of our server's errors.
func (e *DialError) maybeProxy() bool { return e.Status != 0 && !e.ownFormat }

// ReasonSlow is the Reason of a [GapError] for messages that the server dropped because the client
// was too slow.
const ReasonSlow realtime.Reason = "slow"

// GapError is yielded between two messages where messages may be missing.
//
// With a Reason it describes what is missing of one room that keeps history, or of the inbox.
// Without a Reason it concerns everything else: rooms without history, messages to all, messages to
// a connection and, without an inbox, messages to the user. After a reconnect there is no GapError
// without a Reason if all rooms keep history and there is an inbox. Notices and messages to all may
// be missing nevertheless.
//
// After a gap with a Reason, a room continues with the messages that follow it. If the room still
// keeps some of the missing messages, [Client.History] returns them. With [realtime.ReasonEpoch]
// the room continues with all messages that it keeps.
type GapError struct {
	// Room is the room to which the messages were sent. If it is empty, a gap with a Reason is one
	// of the inbox, and a gap without a Reason concerns everything else.
	Room string
	// Reason says why the messages could not be recovered. From is the position of the last message
	// before the gap, or the position that stood for it. To is the position of the last missing
	// message, and zero if the room no longer keeps anything.
	Reason   realtime.Reason
	From, To realtime.Position
	// Err is the *realtime.CloseError that ended the previous connection. Nil if no connection
	// ended: then messages arrived too fast, or were not kept for long enough.
	Err error
	// Dropped is the number of messages that the client dropped because its queue was full.
	Dropped int
}

// Error describes the gap with all its reasons. There is no Unwrap method because the close error
// of a connection matches realtime.ErrClosed, and a gap does not end the Client.
func (e *GapError) Error() string {
	s := "realtime: messages may be missing"
	if e.Room != "" {
		s += fmt.Sprintf(" in room %q", e.Room)
	}
	if e.Reason != "" {
		s += ": " + string(e.Reason)
	}
	if e.Dropped > 0 {
		s += fmt.Sprintf(": %d were dropped", e.Dropped)
	}
	if e.Err != nil {
		s += fmt.Sprintf(": %v", e.Err)
	}
	return s
}

// RoomError is yielded when the server refuses to let the client join a room again after a
// reconnect, or removes it from a room that it had joined. The client is no longer a member of the
// room, and does not join it again by itself.
//
// With Member it is also yielded when the server refuses the state of the client, see
// [Client.SetState]; to show the members of a room to which its application has added the client,
// see JoinOptions.Presence; and a latest value or an ephemeral message for a room, see
// [Client.Send].
type RoomError struct {
	Room string
	Err  error // a *realtime.Error, with the code "removed" if the server removed the client
	// Member reports that the membership has not changed: only something else was refused.
	Member bool
}

// Error names the room.
func (e *RoomError) Error() string { return fmt.Sprintf("realtime: room %q: %v", e.Room, e.Err) }

// Unwrap returns the server's error.
func (e *RoomError) Unwrap() error { return e.Err }
