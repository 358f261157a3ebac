package client

import (
	"cmp"
	"math"

	"github.com/realtime-go/realtime"
)

// passed reports whether a client that is at a place has had what is at another one.
func passed(at, other position) bool {
	return at.Epoch == other.Epoch && other.Offset <= at.Offset
}

// move is what the server says in place of messages that a client does not get.
type move struct {
	to     position
	from   uint64          // a client that is behind this offset already is not meant
	reason realtime.Reason // why they are lost; empty: they were not for it
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

// leads reports whether the move leads anywhere from a place.
func (m *move) leads(at position) bool {
	switch {
	case m.to.Epoch == "" || at.Epoch == "":
		return false
	case m.reason == "":
		return !passed(at, m.to)
	case m.from == math.MaxUint64: // back only to what there is
		return m.reason == realtime.ReasonAhead || !passed(at, m.to)
	default:
		return m.to.Epoch == at.Epoch && at.Offset <= m.from
	}
}
