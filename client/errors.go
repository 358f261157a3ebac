package client

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/realtime-go/realtime"
)

var (
	// ErrDisconnected says that the connection ended while a call was under way. Whether the
	// server did what it was asked for is not known.
	ErrDisconnected = errors.New("realtime: disconnected before the answer")
	// ErrFull says that so much waits for the server already, for a connection or for answers, that
	// a request was refused: see DialOptions.PendingRequests and PendingBytes.
	ErrFull = errors.New("realtime: too much waits for the server already")
	// ErrTarget says that a target is not exactly one room, user or connection, or all.
	// Clients cannot name more, and no exceptions.
	ErrTarget = errors.New("realtime: want one room, user or connection, or all")
)

// isCode reports whether err is what a server answers with this code.
func isCode(err error, code string) bool {
	e, ok := errors.AsType[*realtime.Error](err)
	return ok && e.Code == code
}

// errForeign says that somebody else answers at the URL.
var errForeign = errors.New("the server does not speak realtime.v1")

// DialError says why an attempt to connect failed.
type DialError struct {
	Status     int           // of the HTTP answer, 0 if there was none
	Message    string        // the server's words, not to be trusted; may be empty
	RetryAfter time.Duration // how long the server asks to wait; 0 if it does not say
	// Err is the error behind it: of the network, of DialOptions.Token, or
	// [realtime.ErrUnauthenticated] and [realtime.ErrForbidden] for the status 401 and 403.
	Err error

	passes bool // the server says that it does, whenever
	ours   bool // it is the server that says so, as far as one can tell by its words
}

// Error returns the status and the server's words, or the error behind it.
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

// Unwrap returns the error behind it.
func (e *DialError) Unwrap() error { return e.Err }

// ComeBack reports whether the next attempt may end in another way. It does if the server says
// when. Otherwise it does not after the status 400, 401, 403, 404, 405 and 431, if there is no
// token, and if the server does not speak realtime.v1. Compare [realtime.CloseCode.ComeBack].
//
// A [Client] that has had a connection comes back after these too, unless the body is exactly what
// the server says, {"error":"…"}: while it is replaced, a proxy may answer anything in its place.
func (e *DialError) ComeBack() bool {
	if e.passes {
		return true
	}
	switch e.Status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden,
		http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusRequestHeaderFieldsTooLarge:
		return false
	}
	return !errors.Is(e.Err, realtime.ErrUnauthenticated) && !errors.Is(e.Err, errForeign)
}

// foreign reports whether it may be another server that refuses, such as a proxy in front of ours
// while that is replaced: it is not in our words.
func (e *DialError) foreign() bool { return e.Status != 0 && !e.ours }

// ReasonSlow is that of a [GapError] for messages that the server left out because the client was
// too slow.
const ReasonSlow realtime.Reason = "slow"

// GapError is yielded between two messages where some may be missing. With a Reason it says what
// is missing of one room that keeps history, or of the inbox. Without one it concerns everything
// else: rooms that keep nothing, messages to all, to a connection and, without an inbox, to the
// user. After a reconnect there is none of these where all rooms keep history and there is an
// inbox; notices and messages to all may be missing all the same.
//
// A room that is joined again goes on with what is new: what it still keeps of what is missing is
// to be had by [Client.History]. With [realtime.ReasonEpoch] it goes on with all that it keeps.
type GapError struct {
	// Room is the room that the messages were sent to. Empty: with a Reason those of the inbox,
	// without one anything else.
	Room string
	// Reason is why they could not be recovered. From and To are the positions around them: the
	// last message before the gap, or the position that stood for it, and the last that is missing.
	// To is zero if the room keeps nothing any more.
	Reason   realtime.Reason
	From, To realtime.Position
	// Err is how the connection before ended, a *realtime.CloseError. Nil if it did not end:
	// then the messages came too fast, or were not kept for long enough.
	Err error
	// Dropped is how many messages were dropped because nobody took those before them.
	Dropped int
}

// Error returns all reasons. There is no Unwrap: the end of a connection matches
// realtime.ErrClosed, and a gap is not the end of a Client.
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

// RoomError is yielded when the server refuses to let the client into a room again after a
// reconnect, or takes it out of a room that it has joined. The client has forgotten the room.
type RoomError struct {
	Room string
	Err  error // a *realtime.Error, with the code "removed" if the server took the client out
}

// Error names the room.
func (e *RoomError) Error() string { return fmt.Sprintf("realtime: room %q: %v", e.Room, e.Err) }

// Unwrap returns the server's error.
func (e *RoomError) Unwrap() error { return e.Err }
