package client

import (
	"cmp"
	"math"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/wire"
)

// covers reports whether a client at a position has already received the message at another one:
// whether the other position is the same or an older one.
func covers(at, other position) bool {
	return at.Epoch == other.Epoch && other.Offset <= at.Offset
}

// positionUpdate is a change of a client's position without a message: a position frame or a
// skipped frame.
type positionUpdate struct {
	to     position
	from   uint64          // the update does not apply to a client after this offset
	reason realtime.Reason // why messages are lost; empty: they were not for this client
}

func (in *incoming) positionUpdate() positionUpdate {
	u := positionUpdate{to: position{Epoch: in.Epoch, Offset: in.Offset}, from: math.MaxUint64}
	switch {
	case in.Type == wire.FrameSkipped:
		u.to.Offset, u.from = in.To, in.From
		u.reason = cmp.Or(in.Reason, ReasonSlow)
	case in.Recovered != nil && !*in.Recovered:
		u.reason = cmp.Or(in.Reason, realtime.ReasonUnknown)
	}
	return u
}

// applies reports whether the update changes the position.
func (u *positionUpdate) applies(at position) bool {
	switch {
	case u.to.Epoch == "" || at.Epoch == "":
		return false
	case u.reason == "":
		return !covers(at, u.to)
	case u.from == math.MaxUint64: // only ReasonAhead moves the position back
		return u.reason == realtime.ReasonAhead || !covers(at, u.to)
	default:
		return u.to.Epoch == at.Epoch && at.Offset <= u.from
	}
}
