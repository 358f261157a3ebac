// Package disconnect defines why a connection ended: close codes, causes, and the error with both.
package disconnect

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/realtime-go/realtime/broker"
)

// CloseCode is the code in a WebSocket close frame, RFC 6455 section 7.4. It tells a client whether
// to reconnect: see [CloseCode.ComeBack].
type CloseCode uint16

// The close codes that the library sends. An application can use 3000 to 4299 and 4500 to 4999;
// 4300 to 4499 are reserved for the library.
const (
	CloseNormal   CloseCode = 1000 // normal end
	CloseAway     CloseCode = 1001 // the Manager was closed, or the page was closed
	CloseProtocol CloseCode = 1002 // broken framing
	CloseText     CloseCode = 1007 // text that is not UTF-8
	ClosePolicy   CloseCode = 1008 // too many pings or fragments, or a message that never ends
	CloseTooBig   CloseCode = 1009 // a message above Limits.MessageBytes
	CloseInternal CloseCode = 1011 // the application panicked, or the broker failed
	CloseRestart  CloseCode = 1012 // Shutdown: reconnect after a random wait
	CloseLater    CloseCode = 1013 // the broker of several processes cannot be reached

	CloseSlow     CloseCode = 4300 // the send queue was full, or memory was short
	CloseTimeout  CloseCode = 4308 // no sign of life, or a write that timed out
	CloseExpired  CloseCode = 4401 // the identity expired: authenticate again
	CloseRefused  CloseCode = 4403 // OnConnect refused, or the user is denied
	CloseReplaced CloseCode = 4409 // a newer connection of the user took its place
	CloseRate     CloseCode = 4429 // sent too much for too long

	// CloseNone and CloseLost are never sent. They stand for a close frame without a code, and for
	// an end without a close frame.
	CloseNone CloseCode = 1005
	CloseLost CloseCode = 1006
)

// ComeBack reports whether a client whose connection was closed with this code should reconnect
// after a wait: 1001, 1006, 1011 to 1014, 3000 to 4399. With any other code a new attempt would end
// in the same way.
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
	case CloseNormal, CloseAway, ClosePolicy, CloseInternal, CloseRestart, CloseLater:
		return true
	default:
		return 3000 <= c && c <= 4999
	}
}

// ClosePayload decodes the payload of a close frame that was received, RFC 6455 section 5.5.1, and
// reports whether it is valid. The reason may not be UTF-8.
func ClosePayload(p []byte) (code CloseCode, reason string, ok bool) {
	if len(p) < 2 {
		return CloseNone, "", len(p) == 0
	}
	code = CloseCode(binary.BigEndian.Uint16(p))
	return code, string(p[2:]), code.receivable()
}

// receivable reports whether a close frame may contain the code, RFC 6455 section 7.4, and the
// registry that it refers to.
func (c CloseCode) receivable() bool {
	switch c {
	case 1004, CloseNone, CloseLost:
		return false
	default:
		return 1000 <= c && c <= 1014 || 3000 <= c && c <= 4999
	}
}

// Cause says why a connection ended.
type Cause uint8

// The causes of an end. Each connection ends with exactly one.
const (
	CauseClient   Cause = iota // the peer closed it
	CauseLost                  // the socket broke or ended without a close frame
	CauseTimeout               // no sign of life, or a write that never ended
	CauseSlow                  // the send queue was full, or memory was short
	CauseServer                // Conn.Close, User.Disconnect or User.Deny
	CauseShutdown              // Shutdown or Close of the Manager
	CauseProtocol              // broken framing, text that is not UTF-8, too big
	CauseRate                  // sent too much for too long
	CauseRefused               // OnConnect refused, or the user was denied in the meantime
	CauseExpired               // the identity expired and was not renewed
	CauseReplaced              // a newer connection of the user took its place
	CausePanic                 // the application panicked
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

// MarshalText returns the word of String, so that a JSON log contains it too.
func (c Cause) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// CloseError is the reason why a connection ended. It is passed to OnDisconnect, and is the cause
// of Conn.Context. It matches realtime.ErrClosed with errors.Is.
type CloseError struct {
	Cause  Cause
	Code   CloseCode // sent or received, or what would have been sent
	Reason string    // likewise; do not trust the text of a peer
	Err    error     // the underlying error, or nil

	// Grace is for how long after the end the client may resume the session of the connection. It
	// is set for OnDisconnect and for MemberAway; the cause of a context does not have it. Zero: the
	// session has ended too, or another connection resumes it already (CauseReplaced).
	Grace time.Duration
}

// Error returns cause, code and reason.
func (e *CloseError) Error() string {
	s := fmt.Sprintf("realtime: connection ended: %s, code %d", e.Cause, e.Code)
	if e.Reason != "" {
		s += fmt.Sprintf(", %q", e.Reason)
	}
	return s
}

// Unwrap returns the underlying error.
func (e *CloseError) Unwrap() error { return e.Err }

// Is reports whether target is broker.ErrClosed.
func (e *CloseError) Is(target error) bool { return target == broker.ErrClosed }
