package recovery

import (
	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/sendqueue"
)

// Policy says what a stream keeps, and what happens to a message for a subscriber whose queue is
// full.
type Policy struct {
	Queue sendqueue.Policy
	// Priority is that of the messages: Vital if CatchUp is set. Once queued, such a message is not
	// dropped to make space for another one.
	Priority sendqueue.Priority
	// CatchUp gives a subscriber from history what Queue has dropped.
	CatchUp bool
	// Lossy says that Queue may drop messages for good.
	Lossy bool
	// Keep is how much is kept: nothing if Messages is zero.
	Keep broker.Retention
}

// Keeps reports whether anything is kept.
func (p *Policy) Keeps() bool { return p.Keep.Messages > 0 }
