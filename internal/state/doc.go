// Package state keeps what is current in a room, and gives it to readers as fast as they take it.
//
// A [Room] has entries of its members, and values by key. Each kind is in a table, which numbers
// its changes: so the room knows, for each [Reader], what has changed since it was served last,
// each entry and each key once, as it is now. Nothing waits in a queue for a reader that is slow.
// It gets the newest when it is ready, and takes a few bytes for each key that it lacks, however
// often that changes.
//
// A flush walks through the readers. Those that are in step share its frames; each of the others
// gets the difference from its own version. The room flushes at once, but not more often than once
// in a tick. A reader is ready if its connection has not too many frames unseen, which [Pace]
// counts for all readers of the connection. If it is not, it is served when the client has seen
// some.
//
// Locks are taken in the order: the room, the pace, the send queue.
package state
