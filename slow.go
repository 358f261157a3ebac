package realtime

import "github.com/realtime-go/realtime/internal/sendqueue"

// SlowPolicy says what happens to a message for a connection whose queue is full,
// because its peer reads more slowly than it is written to.
type SlowPolicy uint8

// The policies. Whatever is dropped is counted in [Stats].
const (
	// SlowDefault is Options.Slow for a room. For Options.Slow it is SlowCatchUp in rooms that keep
	// history, and SlowDisconnect.
	SlowDefault SlowPolicy = iota
	// SlowDisconnect ends the connection with code 4300. The client comes back and
	// knows that it has missed something.
	SlowDisconnect
	// SlowDropOldest drops what has waited longest: for data of which only the
	// latest counts.
	SlowDropOldest
	// SlowDropNewest drops the message at hand.
	SlowDropNewest
	// SlowCatchUp is for rooms that keep history, and their default unless Options.Slow says
	// otherwise: a member who cannot keep up gets what he has missed from history as soon as he has
	// read most of what waits for him, as fast as he reads it. Only what is not kept any more by then
	// is lost for him, and he is told. In other rooms it is SlowDisconnect.
	SlowCatchUp
)

func (p SlowPolicy) engine() sendqueue.Policy {
	switch p {
	case SlowDropOldest:
		return sendqueue.DropOldest
	case SlowDropNewest:
		return sendqueue.DropNewest
	default:
		return sendqueue.Disconnect
	}
}
