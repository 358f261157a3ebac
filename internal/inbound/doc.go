// Package inbound provides the receiving side of WebSocket connections, below the WebSocket
// library.
//
// It interprets frame headers and no payloads. A [Scanner] follows and checks the headers. An
// [Intake] reads a socket: it passes everything to its scanner first, and holds a buffer only while
// the buffer contains data. Parked connections wait for input without a goroutine.
//
// # Read right
//
// Only one goroutine reads a connection at a time. It gives up the right to read with
// [Intake.Park]. When input arrives, [Listener.Wake] passes the right to another goroutine.
package inbound
