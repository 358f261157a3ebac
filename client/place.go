package client

import (
	"cmp"
	"math"

	"github.com/realtime-go/realtime"
)

// passed reports whether a client at a position has already received the message at another one.
func passed(at, other position) bool {
	return at.Epoch == other.Epoch && other.Offset <= at.Offset
}

// move is a change of a client's position without a message.
type move struct {
	to     position
	from   uint64          // the move does not apply to a client after this offset
	reason realtime.Reason // why messages are lost; empty: they were not for this client
}

func (in *incoming) move() move {
	m := move{to: position{Epoch: in.Epoch, Offset: in.Offset}, from: math.MaxUint64}
	switch {
	case in.Type == "skipped":
		m.to.Offset, m.from = in.To, in.From
		m.reason = cmp.Or(in.Reason, ReasonSlow)
	case in.Recovered != nil && !*in.Recovered:
		m.reason = cmp.Or(in.Reason, realtime.ReasonUnknown)
	}
	return m
}

// leads reports whether the move changes the position.
func (m *move) leads(at position) bool {
	switch {
	case m.to.Epoch == "" || at.Epoch == "":
		return false
	case m.reason == "":
		return !passed(at, m.to)
	case m.from == math.MaxUint64: // only ReasonAhead moves the position back
		return m.reason == realtime.ReasonAhead || !passed(at, m.to)
	default:
		return m.to.Epoch == at.Epoch && at.Offset <= m.from
	}
}
