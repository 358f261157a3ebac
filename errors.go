package realtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/admission"
	"github.com/realtime-go/realtime/internal/disconnect"
	"github.com/realtime-go/realtime/internal/session"
)

// Errors of admission: of Authenticate, Register and the endpoint.
var (
	// ErrUnauthenticated means that the identity is missing, unknown or has expired. The endpoint
	// answers 401, also to any other error of Authenticate that does not match ErrForbidden or
	// ErrUnavailable.
	ErrUnauthenticated = errors.New("realtime: not authenticated")
	// ErrForbidden means that the identity is known and has no permission. The endpoint and the
	// REST handler answer 403.
	ErrForbidden = errors.New("realtime: forbidden")
	// ErrTooManyConns means that Limits.Conns or Limits.ConnsPerUser is reached.
	ErrTooManyConns = admission.ErrTooManyConns
	// ErrOverloaded means that usage exceeds Limits.MemoryBytes, or that too many tickets are
	// unused, see [Manager.IssueTicket]. It is temporary. The endpoint answers 503.
	ErrOverloaded = admission.ErrOverloaded

	errUserFull = fmt.Errorf("%w of one user", ErrTooManyConns)
)

// Errors of connections and rooms.
var (
	// ErrClosed means that the connection, the Manager or the broker has ended.
	ErrClosed = broker.ErrClosed
	// ErrNotOpen means that OnConnect has not returned yet for the connection.
	ErrNotOpen = errors.New("realtime: connection not open yet")
	// ErrNotFound means that there is no such connection.
	ErrNotFound = errors.New("realtime: connection not found")
	// ErrDenied means that the user is denied for some time, see [User.Deny] and [Room.Deny], or
	// was disconnected or removed while the admission or the join was in progress.
	ErrDenied = admission.ErrDenied
	// ErrTooManyRooms means that Limits.RoomsPerConn is reached.
	ErrTooManyRooms = errors.New("realtime: too many rooms")
	// ErrNoHistory means that the room keeps nothing, see Options.History.
	ErrNoHistory = errors.New("realtime: room keeps no history")
	// ErrBacklog means that the answer of the client cannot be read: the client has sent so many
	// messages during the current handler that reading has stopped before the answer.
	ErrBacklog = session.ErrBacklog
	// ErrPlainProtocol means that the client speaks the plain protocol, which has no calls.
	ErrPlainProtocol = errors.New("realtime: client does not speak realtime.v1")
)

// Errors of arguments.
var (
	// ErrInvalidName means that a name breaks the rules of [ValidName], is too long or is reserved:
	// a user id, a room, a connection id, a method, or the type, id or key of a message.
	ErrInvalidName = broker.ErrInvalidName
	// ErrInvalidMessage means that the content of a message is not valid JSON in UTF-8, that a
	// message has both Content and Binary, or that content does not fit the type of a handler.
	ErrInvalidMessage = errors.New("realtime: invalid message")
	// ErrTooLarge means that the content of a message is larger than half of Limits.QueueBytes, or
	// that the message is larger than all that a room or an inbox keeps.
	ErrTooLarge = errors.New("realtime: message too large")
	// ErrInvalidCloseCode means that a server may not send the close code, see [Conn.Close].
	ErrInvalidCloseCode = errors.New("realtime: invalid close code")
)

// Errors of kept messages.
var (
	// ErrInvalidPosition means that a position does not belong to the history of the room or to the
	// inbox.
	ErrInvalidPosition = broker.ErrInvalidPosition
	// ErrFull means that the broker keeps as much as it may, or that an inbox keeps as many
	// messages of one sender as it may.
	ErrFull = broker.ErrFull
	// ErrUnavailable means that a broker of several processes cannot be reached. It is unknown
	// whether the message was kept: sending it again with the same ID does not double it.
	ErrUnavailable = broker.ErrUnavailable
)

var (
	// errShare means that a message is kept nowhere, because its sender has used up its share of
	// every inbox.
	errShare = fmt.Errorf("%w: the inbox has the sender's share", ErrFull)
	// errNoTransport means that Register was given the zero Transport.
	errNoTransport = errors.New("realtime: the zero Transport")
	// errTaken means that Register was given a Transport for the second time.
	errTaken = errors.New("realtime: the Transport was registered before")
	// errNoMember means that a connection is not in a room.
	errNoMember = errors.New("realtime: not in the room")
)

// Error is the answer of a handler to a client when the request failed. If a handler returns any
// other error, the client receives the code "internal" and no details. Exceptions are
// ErrForbidden, ErrUnauthenticated, ErrDenied, ErrTooManyRooms, ErrTooLarge, ErrFull, ErrNoHistory,
// ErrInvalidPosition and ErrUnavailable: for an error that matches one of them, the client receives
// the same answer as if the library had returned it.
//
// The Go client returns an Error for each request that the server refuses, and its handlers answer
// calls of the server with one, see [ClientError].
type Error struct {
	// Code is the word by which programs distinguish errors: 1 to 64 bytes that obey the rules of
	// [ValidName]. Any other code counts as "internal". docs/PROTOCOL.md lists the codes of the
	// library.
	Code string
	// Message is for humans.
	Message string
	// RetryAfter is how long the client should wait before it tries again. It is sent in
	// milliseconds, rounded up, and up to a year. Zero or negative: not known. The library sets it
	// for a user who is denied for some time, for a client that has sent too many messages with an
	// id, and if the broker of several processes cannot be reached.
	RetryAfter time.Duration
	// Data is more about the error for programs, as any JSON. Empty: nothing. If it is not JSON, or
	// larger than the content of a message may be, the client receives the error without it.
	Data json.RawMessage
}

// Error returns code and message.
func (e *Error) Error() string { return "realtime: " + e.Code + ": " + e.Message }

// ClientError is the error with which a client answers [Call]. The client has chosen all fields;
// they are those of [Error]. If a handler returns a ClientError, its own client receives the code
// "internal".
type ClientError struct {
	Code, Message string
	RetryAfter    time.Duration
	Data          json.RawMessage
}

// Error returns code and message.
func (e *ClientError) Error() string {
	return "realtime: client answered " + e.Code + ": " + e.Message
}

// about returns err with a prefix that names the invalid value.
func about(what string, err error) error { return fmt.Errorf("%s: %w", what, err) }

// CloseCode is the code in a WebSocket close frame, RFC 6455 section 7.4. Its method ComeBack
// reports whether a client should reconnect after it. Its method Sendable reports whether an
// application may send it.
type CloseCode = disconnect.CloseCode

// The close codes that the library sends. An application may use 3000 to 4299 and 4500 to 4999 for
// its own purposes; 4300 to 4499 are reserved for the library.
const (
	CloseNormal   = disconnect.CloseNormal   // normal end
	CloseAway     = disconnect.CloseAway     // the Manager was closed, or the page was closed
	CloseProtocol = disconnect.CloseProtocol // broken framing
	CloseText     = disconnect.CloseText     // text that is not UTF-8
	ClosePolicy   = disconnect.ClosePolicy   // too many pings or fragments, or an endless message
	CloseTooBig   = disconnect.CloseTooBig   // a message above Limits.MessageBytes
	CloseInternal = disconnect.CloseInternal // the application panicked, or the broker failed
	CloseRestart  = disconnect.CloseRestart  // Shutdown: reconnect after a random wait
	CloseLater    = disconnect.CloseLater    // the broker of several processes cannot be reached
	CloseSlow     = disconnect.CloseSlow     // the send queue was full, or memory was short
	CloseTimeout  = disconnect.CloseTimeout  // no sign of life
	CloseExpired  = disconnect.CloseExpired  // the identity expired: authenticate again
	CloseRefused  = disconnect.CloseRefused  // OnConnect refused, or the user is denied
	CloseReplaced = disconnect.CloseReplaced // a newer connection of the user took its place
	CloseRate     = disconnect.CloseRate     // sent too much for too long

	// CloseNone and CloseLost are never sent. They stand for a close frame without a code, and for
	// an end without a close frame.
	CloseNone = disconnect.CloseNone
	CloseLost = disconnect.CloseLost
)

// Cause says why a connection ended. Its methods String and MarshalText return it as one lower-case
// word.
type Cause = disconnect.Cause

// The causes. Each connection ends with exactly one.
const (
	CauseClient   = disconnect.CauseClient   // the peer closed it
	CauseLost     = disconnect.CauseLost     // the socket broke or ended without a close frame
	CauseTimeout  = disconnect.CauseTimeout  // no sign of life, or a write that never ended
	CauseSlow     = disconnect.CauseSlow     // the send queue was full, or memory was short
	CauseServer   = disconnect.CauseServer   // Conn.Close, Disconnect, Deny, or the broker failed
	CauseShutdown = disconnect.CauseShutdown // Shutdown or Close of the Manager
	CauseProtocol = disconnect.CauseProtocol // broken framing, text that is not UTF-8, too big
	CauseRate     = disconnect.CauseRate     // sent too much for too long
	CauseRefused  = disconnect.CauseRefused  // OnConnect refused, or the user was denied meanwhile
	CauseExpired  = disconnect.CauseExpired  // the identity expired and was not renewed
	CauseReplaced = disconnect.CauseReplaced // a newer connection of the user took its place
	CausePanic    = disconnect.CausePanic    // the application panicked
)

// CloseError says how a connection ended. It is passed to OnDisconnect, and it is the cause of the
// context of the connection, see [Conn.Context]. It matches [ErrClosed] with errors.Is. Its fields
// are:
//
//	Cause  Cause         // why
//	Code   CloseCode     // sent or received, or what would have been sent
//	Reason string        // likewise; do not trust the text of a peer
//	Err    error         // the underlying error, or nil
//	Grace  time.Duration // for how long the client may resume the session, see Timeouts.Resume
//
// Grace is set in OnDisconnect and in a [RoomEvent], and counts from the end of the connection.
// Zero: the session has ended too, or another connection has it (CauseReplaced).
type CloseError = disconnect.CloseError
