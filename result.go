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
	// Position is the message's place in what is kept, if it was sent to one room that keeps
	// history, or to one user who has an inbox. Zero otherwise.
	Position Position
	// Kept is how many rooms and inboxes keep it.
	Kept int
	// Full is how many inboxes did not take it, because its Sender or Guest has as much in them
	// as it may, see InboxOptions.Keep: their users do not get it.
	Full int
	// Duplicate says that it was sent before, with the same Sender and ID, and nobody got it now;
	// if it was sent to several rooms, that this is so in one of them.
	Duplicate bool
	// Local says that the numbers are complete: no broker carries the message to
	// other processes. Without it they may be less than what is true.
	Local bool
}

// sum adds what became of another part.
func (r *Result) sum(o Result) {
	r.Matched += o.Matched
	r.Queued += o.Queued
	r.Dropped += o.Dropped
	r.Offline += o.Offline
	r.Local = r.Local && o.Local
}
