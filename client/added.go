package client

import (
	"encoding/json"
	"slices"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/wire"
)

// maxFormerRooms is the number of rooms whose position is kept although the client is no longer a
// member: rooms to which the application had added it before the connection was lost.
const maxFormerRooms = 1_000

// forgetFormer forgets the oldest of these rooms if there are more than maxFormerRooms.
func (ms *members) forgetFormer() {
	former := func(r *room) bool { return r.added && !r.joined && r.joining == 0 }
	surplus := -maxFormerRooms
	for _, r := range ms.all {
		if former(r) {
			surplus++
		}
	}
	ms.all = slices.DeleteFunc(ms.all, func(r *room) bool {
		if surplus <= 0 || !former(r) {
			return false
		}
		surplus--
		return true
	})
}

// addedByServer is called by the reader when the server's application has added the client to a
// room.
func (ms *members) addedByServer(name string, content json.RawMessage) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	a := decodeJoin(content)
	r := ms.find(name)
	if r == nil {
		r = &room{name: name}
		ms.all = append(ms.all, r)
	}
	if r.joining > 0 && !r.joined || r.pendingJoin != nil {
		r.addition = &a
		return
	}
	ms.admit(r, a)
}

// admitLate is admit for an addition during a join that has failed. Kept messages since the
// addition were ignored.
func (ms *members) admitLate(r *room) {
	a := *r.addition
	r.addition = nil
	ms.admit(r, a)
	if r.at.Epoch != "" && r.pendingJoin == nil {
		ms.requestJoin(r, drained)
	}
}

// admit makes the client a member of a room to which the application has added it.
func (ms *members) admit(r *room, a joinAnswer) {
	r.joined, r.added = true, true
	ms.watchAnswered(r, &a)
	_ = ms.syncState(r) // it fails only after the client has ended
	ms.watchAdded(r)
	missing := r.watch.wanted || r.values.held
	switch {
	case r.at.Epoch == "":
		ms.applyJoin(r, position{}, readded, a)
	case covers(r.at, a.Position) && r.at.Offset <= a.Top: // the server sends what is missing
		r.recovering, r.top, r.lossy, r.requestedUpTo = true, a.Top, a.Lossy, 0
		ms.finishRecovery(r)
	default:
		missing = true
	}
	if missing {
		ms.requestJoin(r, readded)
	}
}

// recoverRefused handles a refused recover request, which may have asked for presence.
func (ms *members) recoverRefused(r *room, why joinCause, watched bool, err error) {
	switch {
	case isCode(err, wire.CodeNoMember):
		r.joined = false
	case watched && isCode(err, wire.CodeForbidden):
		ms.watchRefused(r, why, err)
	default:
		ms.reportGap(r, ms.withLoss(why, GapError{Reason: realtime.ReasonUnknown, From: r.at}))
		r.at = position{}
	}
}
