package realtime

import (
	"context"
	"slices"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/defaults"
)

// Position is a place in the history of a room or in an inbox: after the message with this offset,
// or before all messages if the offset is zero.
//
// Offsets increase within one history and may skip numbers. If a history is lost and begins anew,
// for example because the process restarted and kept it in memory, it has another epoch, so that an
// old position is never mistaken for one of the new history.
type Position struct {
	Epoch  string `json:"epoch"`
	Offset uint64 `json:"offset"`
}

// Reason says why missed messages could not be recovered.
type Reason = broker.Reason

// The reasons.
const (
	ReasonExpired  = broker.ReasonExpired  // they were too old
	ReasonOverflow = broker.ReasonOverflow // they were too many
	ReasonEpoch    = broker.ReasonEpoch    // the history was lost and has begun anew
	ReasonAhead    = broker.ReasonAhead    // the history never had the position
	ReasonUnknown  = broker.ReasonUnknown  // nothing is kept
	ReasonTaken    = broker.ReasonTaken    // nothing is missing: all readers have acknowledged them
)

// Retention says how many messages a room or an inbox keeps. Messages beyond any of the limits are
// discarded, the oldest first.
type Retention struct {
	// Messages is the number of messages. Zero or negative: none are kept.
	Messages int
	// Age is how long a message is kept. Zero: 24 hours. Negative: without limit.
	Age time.Duration
	// Bytes is the size of all messages: their content and about 256 bytes each. Zero: 1 MiB.
	// Negative: without limit.
	Bytes int
}

// HistoryQuery asks for a part of a room's history. The zero query asks for the newest messages.
type HistoryQuery struct {
	// Limit is the maximum number of messages. Zero or negative: 100. There may be fewer, because
	// one answer has at most about 64 KiB.
	Limit int
	// Before and After ask for messages before and after a position. If After is set, the answer
	// has the oldest of these messages, and otherwise the newest. Zero: no bound.
	Before, After Position
}

// History is a part of the messages that a room keeps.
type History struct {
	Messages []KeptMessage // the oldest first
	// More reports whether there are more messages in the direction of the query.
	More bool
	// Top is the position of the newest message.
	Top Position
	// Missing is why some messages after HistoryQuery.After are not kept any more. Empty: none are
	// missing, or HistoryQuery.After is zero.
	Missing Reason
}

// KeptMessage is a message that a room keeps.
type KeptMessage struct {
	Message
	Position Position
	// Target is the room, with the exceptions of the target that the message was sent to: a
	// connection that they exclude did not get the message.
	Target Target
}

// History returns a part of the messages that the room keeps. It includes messages that exclude
// some users or connections: the application must check KeptMessage.Target before it shows one to a
// user. History waits for the broker until ctx ends.
//
// It returns ErrInvalidName if the name of the room is invalid, ErrNoHistory if the room keeps
// nothing, ErrInvalidPosition if Before or After is not a position of the history, and errors of
// the broker.
func (r Room) History(ctx context.Context, q HistoryQuery) (History, error) {
	if err := r.check(); err != nil {
		return History{}, err
	}
	query := broker.Query{Limit: q.Limit, Before: q.Before.Offset, Backwards: true}
	if q.After != (Position{}) {
		query.After, query.Backwards = q.After.Offset, false
	}
	page, err := r.m.publisher.history(ctx, r.name, query)
	if err != nil {
		return History{}, err
	}
	h := History{More: page.More, Top: Position(page.Top)}
	for _, at := range []Position{q.Before, q.After} {
		if at != (Position{}) && (at.Epoch != page.Top.Epoch || at.Offset > page.Top.Offset) {
			return History{}, ErrInvalidPosition
		}
	}
	if q.After != (Position{}) {
		h.Missing = page.GapAfter(broker.Position(q.After))
	}
	for i := range page.Publications {
		p := &page.Publications[i]
		h.Messages = append(h.Messages, KeptMessage{
			Message(p.Message), Position(p.Position), Target(p.Target),
		})
	}
	if query.Backwards {
		slices.Reverse(h.Messages)
	}
	return h, nil
}

// The defaults of Retention.
const (
	defaultAge   = 24 * time.Hour
	defaultBytes = 1 << 20
)

// resolved returns r with its defaults filled in: zero then means without limit, except for
// Messages.
func (r Retention) resolved() Retention {
	r.Messages = max(0, r.Messages)
	defaults.Set(&r.Age, defaultAge)
	defaults.Set(&r.Bytes, defaultBytes)
	return r
}
