package client

import (
	"encoding/json"
	"errors"
	"slices"

	"github.com/realtime-go/realtime"
)

// maxAway is the number of rooms whose position is kept although the client is no longer a member:
// rooms to which the application had added it before the connection was lost.
const maxAway = 1_000

// forgetAway forgets the oldest of these rooms if there are more than maxAway.
func (ms *members) forgetAway() {
	away := func(r *room) bool { return r.given && !r.joined && r.asked == 0 }
	surplus := -maxAway
	for _, r := range ms.all {
		if away(r) {
			surplus++
		}
	}
	ms.all = slices.DeleteFunc(ms.all, func(r *room) bool {
		if surplus <= 0 || !away(r) {
			return false
		}
		surplus--
		return true
	})
}

// put is called by the reader when the server's application has added the client to a room.
func (ms *members) put(name string, content json.RawMessage) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	a := decodeJoin(content)
	r := ms.find(name)
	if r == nil {
		r = &room{name: name}
		ms.all = append(ms.all, r)
	}
	if r.asked > 0 || r.again != nil {
		r.offer = &a
		return
	}
	ms.admit(r, a)
}

// admit makes the client a member of a room to which the application has added it.
func (ms *members) admit(r *room, a joinAnswer) {
	r.joined, r.given = true, true
	switch {
	case r.at.Epoch == "":
		ms.enter(r, position{}, regiven, a)
	case passed(r.at, a.Position) && r.at.Offset <= a.Top: // the server sends what is missing
		r.owes, r.top, r.lossy, r.past = true, a.Top, a.Lossy, 0
		ms.arrive(r)
	default:
		ms.ask(r, regiven)
	}
}

// unrecovered handles a refused recover request.
func (ms *members) unrecovered(r *room, why occasion, err error) {
	if e, ok := errors.AsType[*realtime.Error](err); ok && e.Code == "no_member" {
		r.joined = false
		return
	}
	ms.miss(r, ms.gapOf(why, GapError{Reason: realtime.ReasonUnknown, From: r.at}))
	r.at = position{}
}
