package realtime

import (
	"errors"
	"fmt"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/admission"
	"github.com/realtime-go/realtime/internal/disconnect"
	"github.com/realtime-go/realtime/internal/session"
)

// At the door: errors of Authenticate, Register and the endpoint.
var (
	// ErrUnauthenticated says who you are is not known. The endpoint answers 401.
	// Authenticate may return any other error to the same effect.
	ErrUnauthenticated = errors.New("realtime: not authenticated")
	// ErrForbidden says you are known and may not. The endpoint and the REST
	// handler answer 403.
	ErrForbidden = errors.New("realtime: forbidden")
	// ErrTooManyConns says that Limits.Conns or Limits.ConnsPerUser is reached.
	ErrTooManyConns = admission.ErrTooManyConns
	// ErrOverloaded says that more waits to be written than Limits.MemoryBytes allows.
	// It passes. The endpoint answers 503.
	ErrOverloaded = admission.ErrOverloaded

	errUserFull = fmt.Errorf("%w of one user", ErrTooManyConns)
)

// Of connections and rooms.
var (
	// ErrClosed says that the connection or the Manager has ended.
	ErrClosed = broker.ErrClosed
	// ErrNotOpen says that the connection is still in OnConnect.
	ErrNotOpen = errors.New("realtime: connection not open yet")
	// ErrNotFound says that there is no such connection.
	ErrNotFound = errors.New("realtime: connection not found")
	// ErrDenied says that the user was thrown out meanwhile, or is denied for a time, see
	// [User.Deny] and [Room.Deny].
	ErrDenied = admission.ErrDenied
	// ErrTooManyRooms says that Limits.RoomsPerConn is reached.
	ErrTooManyRooms = errors.New("realtime: too many rooms")
	// ErrNoHistory says that the room keeps nothing, see Options.History.
	ErrNoHistory = errors.New("realtime: room keeps no history")
	// ErrBacklog says that the client cannot be heard: it has sent so much for the handler that
	// runs that its answer would be behind that.
	ErrBacklog = session.ErrBacklog
	// ErrPlainProtocol says that the client speaks the plain protocol, in which it cannot be asked
	// for anything.
	ErrPlainProtocol = errors.New("realtime: client does not speak realtime.v1")
)

// Of values that callers give.
var (
	// ErrInvalidName says that a user id, a room or a message type breaks the rules of
	// [ValidName], or is reserved.
	ErrInvalidName = broker.ErrInvalidName
	// ErrInvalidMessage says that a message's content is not valid JSON in UTF-8, or not what a
	// handler wants.
	ErrInvalidMessage = errors.New("realtime: invalid message")
	// ErrTooLarge says that a message's content is larger than half of QueueBytes: it
	// would fill a connection's queue by itself.
	ErrTooLarge = errors.New("realtime: message too large")
	// ErrInvalidCloseCode says that a close code is not one that a server may send.
	ErrInvalidCloseCode = errors.New("realtime: invalid close code")
)

// Of what is kept.
var (
	// ErrInvalidPosition says that a position is not one of the room's history or of the inbox.
	ErrInvalidPosition = broker.ErrInvalidPosition
	// ErrFull says that the broker keeps as much as it may, or that a user's inbox keeps as much of
	// one sender as it may.
	ErrFull = broker.ErrFull
)

// errShare says that a message is kept nowhere, because its sender has its share everywhere.
var errShare = fmt.Errorf("%w: the inbox has the sender's share", ErrFull)

// errNoTransport says that Register was given the zero Transport.
var errNoTransport = errors.New("realtime: the zero Transport")

// errNoMember says that a connection is not in a room.
var errNoMember = errors.New("realtime: not in the room")

// Error is what a handler tells the client that asked. Where a handler returns another error, the
// client learns no more than "internal error"; or what it would learn if the library had returned
// it, of ErrForbidden, ErrUnauthenticated, ErrDenied, ErrTooManyRooms, ErrTooLarge, ErrFull,
// ErrNoHistory and ErrInvalidPosition.
type Error struct {
	// Code is the word by which programs tell errors apart. The library has its own, see
	// docs/PROTOCOL.md. 1 to 64 bytes, rules of [ValidName]; any other counts as "internal".
	Code string
	// Message is for humans.
	Message string
}

// Error returns code and message.
func (e *Error) Error() string { return "realtime: " + e.Code + ": " + e.Message }

// ClientError is what a client answers to [Conn.Call]. Code and message are a client's words: a
// handler that returns it to another one answers "internal".
type ClientError struct{ Code, Message string }

// Error returns code and message.
func (e *ClientError) Error() string {
	return "realtime: client answers " + e.Code + ": " + e.Message
}

// about says what an error is about.
func about(what string, err error) error { return fmt.Errorf("%s: %w", what, err) }

// CloseCode is the code in a WebSocket close frame, RFC 6455 section 7.4. Its method ComeBack
// reports whether a client that was closed with it should connect again.
type CloseCode = disconnect.CloseCode

// The close codes that the library sends. An application may use 3000 to 4299 and 4500 to 4999 for
// its own; the library reserves 4300 to 4499.
const (
	CloseNormal   = disconnect.CloseNormal   // all is said
	CloseAway     = disconnect.CloseAway     // the Manager was closed, or the page left
	CloseProtocol = disconnect.CloseProtocol // broken framing
	CloseText     = disconnect.CloseText     // text that is not UTF-8
	ClosePolicy   = disconnect.ClosePolicy   // too many pings or fragments, or a message that never ends
	CloseTooBig   = disconnect.CloseTooBig   // a message above Limits.MessageBytes
	CloseInternal = disconnect.CloseInternal // code of the application panicked
	CloseRestart  = disconnect.CloseRestart  // Shutdown: come back after a random wait
	CloseSlow     = disconnect.CloseSlow     // the send queue was full, or memory short: read faster
	CloseTimeout  = disconnect.CloseTimeout  // no sign of life
	CloseExpired  = disconnect.CloseExpired  // the identity is no longer good: authenticate anew
	CloseRefused  = disconnect.CloseRefused  // OnConnect said no, or the user is denied
	CloseReplaced = disconnect.CloseReplaced // a newer connection of the user took the place
	CloseRate     = disconnect.CloseRate     // sent too much for too long

	// CloseNone and CloseLost are never sent. They stand for a close frame without a code and for a
	// connection that ended without a close frame.
	CloseNone = disconnect.CloseNone
	CloseLost = disconnect.CloseLost
)

// Cause says why a connection ended. Its method String returns it as one lower-case word, and
// MarshalText too.
type Cause = disconnect.Cause

// The causes. Each connection ends with exactly one.
const (
	CauseClient   = disconnect.CauseClient   // the peer closed it
	CauseLost     = disconnect.CauseLost     // the socket broke or ended without a close frame
	CauseTimeout  = disconnect.CauseTimeout  // no sign of life, or a write that never ended
	CauseSlow     = disconnect.CauseSlow     // the send queue was full, or memory short
	CauseServer   = disconnect.CauseServer   // Conn.Close, User.Disconnect or User.Deny
	CauseShutdown = disconnect.CauseShutdown // Shutdown or Close of the Manager
	CauseProtocol = disconnect.CauseProtocol // broken framing, text that is not UTF-8, too big
	CauseRate     = disconnect.CauseRate     // sent too much for too long
	CauseRefused  = disconnect.CauseRefused  // OnConnect said no, or the user was denied meanwhile
	CauseExpired  = disconnect.CauseExpired  // the identity expired and was not renewed
	CauseReplaced = disconnect.CauseReplaced // a newer connection of the user took the place
	CausePanic    = disconnect.CausePanic    // code of the application panicked
)

// CloseError says how a connection ended, in its fields Cause, Code, Reason and Err. OnDisconnect
// gets it, and it is the cause of [Conn.Context] from then on. It matches [ErrClosed] with errors.Is.
type CloseError = disconnect.CloseError
