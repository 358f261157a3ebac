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
	Key       string          `json:"key"`
	Show      string          `json:"show"`
}

func decodeJoin(content json.RawMessage) (a joinAnswer) {
	_ = json.Unmarshal(content, &a) // content is empty for a room without history
	return a
}

// applyJoin applies the answer to a join that began at from.
func (ms *members) applyJoin(r *room, from position, why joinCause, a joinAnswer) {
	r.at, r.top, r.lossy, r.requestedUpTo = a.Position, a.Top, a.Lossy, 0
	switch {
	case from.Epoch == "": // the first join, or covered by the gap of the connection
		r.requestedUpTo = a.Top
	case a.Recovered:
		r.recovering = r.recovering || why != drained
	default:
		gap := GapError{Reason: cmp.Or(a.Reason, realtime.ReasonUnknown), From: from, To: a.Position}
		ms.reportGap(r, ms.withLoss(why, gap))
	}
	ms.finishRecovery(r)
}

// withLoss adds the error of the lost connection to a gap that was caused by it.
func (ms *members) withLoss(why joinCause, gap GapError) GapError {
	if why == reconnected || why == readded {
		gap.Err = ms.lastLoss
	}
	return gap
}

// reportGap reports that messages of a room are lost for good. It replaces the report of a
// recovery.
func (ms *members) reportGap(r *room, gap GapError) {
	gap.Room = r.name
	ms.stream.addGap(gap)
	r.recovering, r.recovered = false, 0
}

// finishRecovery notes a recovery when it is complete.
func (ms *members) finishRecovery(r *room) {
	if !r.recovering || r.at.Offset < r.top {
		return
	}
	ms.recoveries = append(ms.recoveries, Recovery{Room: r.name, Messages: r.recovered})
	r.recovering, r.recovered = false, 0
}

// takeRecoveries returns the recoveries since the last call.
func (ms *members) takeRecoveries() []Recovery {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	recoveries := ms.recoveries
	ms.recoveries = nil
	return recoveries
}

// isJoining reports whether kept messages are ignored until a call of Join is answered. They are
// received again after that.
func (r *room) isJoining() bool {
	return r.at.Epoch == "" && r.historyJoins > 0 || !r.joined && r.addition != nil
}

// receive queues a kept message for the consumer if it is the next one of its room. Any other
// message has already been received, or will be received again.
func (ms *members) receive(m Message, prev uint64) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	r := ms.find(m.Room)
	switch {
	case r == nil || r.at.Epoch == "" && !r.isJoining(): // no position to compare with
		ms.stream.push(m, false, false)
	case r.isJoining(), r.pendingJoin != nil, r.full, r.at.Epoch == "", covers(r.at, m.Position):
	case r.at != position{Epoch: m.Epoch, Offset: prev} && !ms.handleGap(r, m.Position, prev):
	default:
		ms.enqueue(r, m)
	}
}

// enqueue queues the next message of a room.
func (ms *members) enqueue(r *room, m Message) {
	outcome := ms.stream.push(m, true, m.Offset <= r.requestedUpTo)
	if outcome == refused {
		r.full = true
		return
	}
	r.at = m.Position
	if r.recovering && outcome == queued {
		r.recovered++
	}
	ms.finishRecovery(r)
}

// handleGap handles a gap before a message. It reports whether the room continues with that
// message.
func (ms *members) handleGap(r *room, to position, prev uint64) bool {
	if !r.lossy || to.Epoch != r.at.Epoch {
		ms.requestJoin(r, gapFound)
		return false
	}
	before := position{Epoch: to.Epoch, Offset: prev}
	ms.reportGap(r, GapError{Reason: ReasonSlow, From: r.at, To: before})
	r.at = before
	return true
}

// updatePosition advances the position of a room without a message.
func (ms *members) updatePosition(name string, u positionUpdate) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	r := ms.find(name)
	if r == nil || r.isJoining() || r.pendingJoin != nil || r.full || !u.applies(r.at) {
		return
	}
	switch {
	case u.reason != "":
		ms.reportGap(r, GapError{Reason: u.reason, From: r.at, To: u.to})
	case u.to.Epoch != r.at.Epoch:
		ms.requestJoin(r, gapFound)
		return
	}
	r.at = u.to
	ms.finishRecovery(r)
}

// drained asks again for the messages that did not fit into the queue.
func (ms *members) drained() {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for _, r := range ms.all {
		if r.full {
			ms.requestJoin(r, drained)
		}
	}
}
