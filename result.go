package realtime

// Result says what became of a message at the moment Send returned. Queued is not
// delivered: a connection may end before its queue is written.
type Result struct {
	// Matched is how many connections the target means: Queued + Dropped.
	Matched int
	// Queued is how many took the message into their queues.
	Queued int
	// Dropped is how many did not: their queue was full, or they were about to end.
	Dropped int
	// Offline is how many of the target's users have no connection.
	Offline int
	// Local says that the numbers are complete: no broker carries the message to
	// other processes. Without it they are all zero.
	Local bool
}
