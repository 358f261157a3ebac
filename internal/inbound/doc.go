// Package inbound provides the receiving side of WebSocket connections.
//
// A [Scanner] follows and checks the headers of frames. There are two readers over it. An [Intake]
// reads a plain socket by itself: it assembles messages, holds a buffer only while the buffer
// contains data, and lets quiet connections wait without a goroutine. A [Filter] reads any other
// connection for the WebSocket library, which assembles the messages.
//
// # Read right
//
// Only one goroutine reads a connection at a time. It gives up the right to read with
// [Intake.Park]. When input arrives, [Listener.Wake] passes the right to another goroutine.
package inbound

import "errors"

var (
	// ErrQuiet is returned instead of waiting between two messages.
	ErrQuiet = errors.New("realtime: nothing to read")
	// ErrTorn is returned instead of io.EOF inside a message.
	ErrTorn = errors.New("realtime: connection ended inside a message")
)

// Listener receives the events of a connection that is read. Its methods must not block, except
// where noted.
type Listener interface {
	// Alive reports n bytes from the peer. It may block: the connection is not read until it
	// returns.
	Alive(n int)
	// Waiting reports that the reader is about to wait, whether it waits inside a message or a
	// frame, and how many bytes of memory the incomplete message takes.
	Waiting(inside bool, held int)
	// Ping and Pong report control frames. The payload may be used until they return.
	Ping(payload []byte)
	Pong(payload []byte)
	// Wake reports input on a connection parked by [Intake.Park].
	Wake()
}
