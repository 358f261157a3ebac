package client

import (
	"cmp"
	"encoding/json"

	"github.com/realtime-go/realtime"
)

// joinAnswer is the content of the answer to a join or a recover request, and of a joined frame.
type joinAnswer struct {
	realtime.Position
	Top       uint64          `json:"top"`
	Lossy     bool            `json:"lossy"`
	Recovered bool            `json:"recovered"`
	Reason    realtime.Reason `json:"reason"`
}

func decodeJoin(content json.RawMessage) (a joinAnswer) {
	_ = json.Unmarshal(content, &a) // content is empty for a room without history
	return a
}

// enter applies the answer to a join that began at from.
func (ms *members) enter(r *room, from position, why occasion, a joinAnswer) {
	r.at, r.top, r.lossy, r.past = a.Position, a.Top, a.Lossy, 0
	switch {
	case from.Epoch == "": // the first join, or covered by the gap of the connection
		r.past = a.Top
	case a.Recovered:
		r.owes = r.owes || why != drained
	default:
		gap := GapError{Reason: cmp.Or(a.Reason, realtime.ReasonUnknown), From: from, To: a.Position}
		ms.miss(r, ms.gapOf(why, gap))
	}
	ms.arrive(r)
}

// gapOf adds the error of the lost connection to a gap that was caused by it.
func (ms *members) gapOf(why occasion, gap GapError) GapError {
	if why == reconnected || why == regiven {
		gap.Err = ms.lost
	}
	return gap
}

// miss reports that messages of a room are lost for good. It replaces the report of a recovery.
func (ms *members) miss(r *room, gap GapError) {
	gap.Room = r.name
	ms.stream.miss(gap)
	r.owes, r.caught = false, 0
}

// arrive notes a recovery when it is complete.
func (ms *members) arrive(r *room) {
	if !r.owes || r.at.Offset < r.top {
		return
	}
	ms.recovered = append(ms.recovered, Recovery{Room: r.name, Messages: r.caught})
	r.owes, r.caught = false, 0
}

// news returns the recoveries since the last call.
func (ms *members) news() []Recovery {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	news := ms.recovered
	ms.recovered = nil
	return news
}

// take queues a kept message for the consumer if it is the next one of its room. Any other message
// has already been received, or will be received again.
func (ms *members) take(m Message, prev uint64) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	r := ms.find(m.Room)
	switch {
	case r == nil || r.at.Epoch == "" && r.anew == 0: // no position to compare with
		ms.stream.give(m, false, false)
	case r.again != nil, r.full, r.at.Epoch == "", passed(r.at, m.Position):
	case r.at != position{Epoch: m.Epoch, Offset: prev} && !ms.leap(r, m.Position, prev):
	default:
		ms.give(r, m)
	}
}

// give queues the next message of a room.
func (ms *members) give(r *room, m Message) {
	outcome := ms.stream.give(m, true, m.Offset <= r.past)
	if outcome == declined {
		r.full = true
		return
	}
	r.at = m.Position
	if r.owes && outcome == given {
		r.caught++
	}
	ms.arrive(r)
}

// leap handles a gap before a message. It reports whether the room continues with that message.
func (ms *members) leap(r *room, to position, prev uint64) bool {
	if !r.lossy || to.Epoch != r.at.Epoch {
		ms.ask(r, hole)
		return false
	}
	before := position{Epoch: to.Epoch, Offset: prev}
	ms.miss(r, GapError{Reason: ReasonSlow, From: r.at, To: before})
	r.at = before
	return true
}

// move advances the position of a room without a message.
func (ms *members) move(name string, m move) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	r := ms.find(name)
	if r == nil || r.again != nil || r.full || !m.leads(r.at) {
		return
	}
	switch {
	case m.reason != "":
		ms.miss(r, GapError{Reason: m.reason, From: r.at, To: m.to})
	case m.to.Epoch != r.at.Epoch:
		ms.ask(r, hole)
		return
	}
	r.at = m.to
	ms.arrive(r)
}

// drained asks again for the messages that did not fit into the queue.
func (ms *members) drained() {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for _, r := range ms.all {
		if r.full {
			ms.ask(r, drained)
		}
	}
}
