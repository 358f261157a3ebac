// Package disconnect says why a connection ended: close codes, causes and the error of both.
package disconnect

import (
	"encoding/binary"
	"fmt"

	"github.com/realtime-go/realtime/broker"
)

// CloseCode is the code in a WebSocket close frame, RFC 6455 section 7.4. It tells
// a client whether to come back: see [CloseCode.ComeBack].
type CloseCode uint16

// The close codes that the library sends. Codes of the application's own are 3000
// to 4299 and 4500 to 4999; the library keeps 4300 to 4499.
const (
	CloseNormal   CloseCode = 1000 // all is said
	CloseAway     CloseCode = 1001 // the Manager was closed, or the page left
	CloseProtocol CloseCode = 1002 // broken framing
	CloseText     CloseCode = 1007 // text that is not UTF-8
	ClosePolicy   CloseCode = 1008 // too many pings or fragments, or a message that never ends
	CloseTooBig   CloseCode = 1009 // a message above Options.MaxMessageBytes
	CloseInternal CloseCode = 1011 // code of the application panicked
	CloseRestart  CloseCode = 1012 // Shutdown: come back after a random wait

	CloseSlow     CloseCode = 4300 // the send queue was full, or memory short: read faster
	CloseTimeout  CloseCode = 4308 // no sign of life
	CloseExpired  CloseCode = 4401 // the identity is no longer good: authenticate anew
	CloseRefused  CloseCode = 4403 // OnConnect said no, or the user is denied
	CloseReplaced CloseCode = 4409 // a newer connection of the user took the place
	CloseRate     CloseCode = 4429 // sent too much for too long

	// CloseNone and CloseLost are never sent. They stand for a close frame without
	// a code and for a connection that ended without a close frame.
	CloseNone CloseCode = 1005
	CloseLost CloseCode = 1006
)

// ComeBack reports whether a client that was closed with this code should connect
// again, after a wait: 1001, 1006, 1011 to 1014, 3000 to 4399. With any other code
// the same attempt would end the same way.
func (c CloseCode) ComeBack() bool {
	switch {
	case c == CloseAway, c == CloseLost:
		return true
	default:
		return 1011 <= c && c <= 1014 || 3000 <= c && c <= 4399
	}
}

// Sendable reports whether an application may send the code.
func (c CloseCode) Sendable() bool {
	switch c {
	case CloseNormal, CloseAway, ClosePolicy, CloseInternal, CloseRestart, 1013:
		return true
	default:
		return 3000 <= c && c <= 4999
	}
}

// ClosePayload returns what a close frame says, RFC 6455 section 5.5.1.
func ClosePayload(p []byte) (CloseCode, string) {
	if len(p) < 2 {
		return CloseNone, ""
	}
	return CloseCode(binary.BigEndian.Uint16(p)), string(p[2:])
}

// Cause says why a connection ended.
type Cause uint8

// The causes of an end. Each connection ends with exactly one.
const (
	CauseClient   Cause = iota // the peer closed it
	CauseLost                  // the socket broke or ended without a close frame
	CauseTimeout               // no sign of life, or a write that never ended
	CauseSlow                  // the send queue was full, or memory short
	CauseServer                // Conn.Close, User.Disconnect or User.Deny
	CauseShutdown              // Shutdown or Close of the Manager
	CauseProtocol              // broken framing, text that is not UTF-8, too big
	CauseRate                  // sent too much for too long
	CauseRefused               // OnConnect said no, or the user was denied meanwhile
	CauseExpired               // the identity expired and was not renewed
	CauseReplaced              // a newer connection of the user took the place
	CausePanic                 // code of the application panicked
	NumCauses
)

// String returns the cause as one lower-case word.
func (c Cause) String() string {
	words := [NumCauses]string{
		"client", "lost", "timeout", "slow", "server",
		"shutdown", "protocol", "rate", "refused", "expired", "replaced", "panic",
	}
	if c < NumCauses {
		return words[c]
	}
	return fmt.Sprintf("cause(%d)", uint8(c))
}

// MarshalText returns what String does, so that a log in JSON has the word too.
func (c Cause) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// CloseError says how a connection ended. OnDisconnect is given it, and it is the
// cause of Conn.Context then. It matches realtime.ErrClosed with errors.Is.
type CloseError struct {
	Cause  Cause
	Code   CloseCode // what was sent or received, or would have been
	Reason string    // the same; a peer's words are not to be trusted
	Err    error     // the error behind it, or nil
}

// Error returns cause, code and reason.
func (e *CloseError) Error() string {
	s := fmt.Sprintf("realtime: connection ended: %s, code %d", e.Cause, e.Code)
	if e.Reason != "" {
		s += fmt.Sprintf(", %q", e.Reason)
	}
	return s
}

// Unwrap returns the error behind the end.
func (e *CloseError) Unwrap() error { return e.Err }

// Is reports whether target is broker.ErrClosed.
func (e *CloseError) Is(target error) bool { return target == broker.ErrClosed }
