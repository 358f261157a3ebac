package realtime

import "github.com/realtime-go/realtime/internal/disconnect"

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
	CloseTooBig   = disconnect.CloseTooBig   // a message above Options.MaxMessageBytes
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
