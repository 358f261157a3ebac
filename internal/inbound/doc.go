// Package inbound reads from many connections, below the WebSocket library.
//
// It knows frames by their headers and nothing of what is in them: a [Scanner] follows the
// headers; an [Intake] reads a socket, with a buffer that it borrows while there is
// something in it, and has the scanner look first; parking is where connections wait that
// nobody reads.
//
// # Who reads
//
// One goroutine at a time. It gives the right to read away with [Intake.Park], and
// [Listener.Wake] gives it to somebody else.
package inbound
