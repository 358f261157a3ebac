package realtime

import "github.com/realtime-go/realtime/internal/engine"

// SlowPolicy says what happens to a message for a connection whose queue is full,
// because its peer reads more slowly than it is written to.
type SlowPolicy uint8

// The policies. Whatever is dropped is counted in [Stats].
const (
	// SlowDefault is Options.Slow for a room, and SlowDisconnect for Options.Slow.
	SlowDefault SlowPolicy = iota
	// SlowDisconnect ends the connection with code 4300. The client comes back and
	// knows that it has missed something.
	SlowDisconnect
	// SlowDropOldest drops what has waited longest: for data of which only the
	// latest counts.
	SlowDropOldest
	// SlowDropNewest drops the message at hand.
	SlowDropNewest
)

func (p SlowPolicy) engine() engine.Policy {
	switch p {
	case SlowDropOldest:
		return engine.DropOldest
	case SlowDropNewest:
		return engine.DropNewest
	default:
		return engine.Disconnect
	}
}
