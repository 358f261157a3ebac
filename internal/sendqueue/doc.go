// Package sendqueue moves frames from many senders to many sockets.
//
// It knows bytes and connections, not rooms, users or messages: a [Frame] is the
// immutable wire form of one message, shared by all who receive it; a [Queue] is
// the bounded send queue of one connection together with the state that says who
// may write to its socket.
//
// # Who writes
//
// A Link is at every moment in exactly one [State], changed under its lock. Only
// the goroutine that moved it to [Flushing] or [Owned] may write to the wire, and it
// gives the link back only after its last write has returned. A push into a link that
// is not [Idle] appends and leaves; a push into an idle one puts it on the list of its
// flusher, or starts an owner. Nothing that pushes ever waits for a socket.
package sendqueue
