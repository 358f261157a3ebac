// Package sendqueue provides the bounded send queue of a connection, for frames shared by many
// receivers.
//
// It handles bytes and connections, and knows nothing of rooms, users or messages. A [Frame] is the
// immutable wire form of one message, shared by all its receivers. A [Queue] holds the frames that
// wait for one connection, and the state that determines which goroutine may write to its socket.
//
// # States
//
// A Queue is always in exactly one [State], which changes under its lock:
//
//	Holding
//	   |
//	   | Start, Close, Abort
//	   v
//	 Idle <-----------------+--------------------------+
//	   |                    |                          |
//	   | frame,             | batch written            | nothing left to write
//	   | with a flusher     |                          |
//	   +----> Ready ----> Flushing ----------------> Owned
//	   |         flusher's      socket full, or        ^
//	   |         turn           close frame written    |
//	   |                                               |
//	   | frame, without a flusher                      |
//	   +-----------------------------------------------+
//
//	any state --> Dead: Kill, a failed write, or the end of the closing handshake
//
// A queue that becomes idle while frames wait leaves that state at once.
//
// Only the goroutine that moved the queue to [Flushing] or [Owned] may write to the wire. The queue
// leaves these states only after the last write has returned, or for [Dead]. A push to a queue that
// is not [Idle] only appends. A push to an idle queue also puts it on the list of a flusher, or
// starts a goroutine that owns it. In a fan-out it leaves the queue to [Wakeups], which puts
// several on the list at once: until then the queue is [Ready] and on no list. A push never waits
// for a socket.
package sendqueue
