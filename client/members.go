package client

import (
	"encoding/json"
	"slices"
	"sync"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/wire"
)

// room is a room that the client is in or has asked to join, with its position there. It may also
// be one to which the application added the client over an earlier connection.
type room struct {
	name         string
	joined       bool
	added        bool        // the application added the client, which cannot join by itself
	addition     *joinAnswer // of an addition during a join, whose answer decides; may be nil
	joining      int         // pending calls of Join
	historyJoins int         // of these, calls that ask for earlier messages, which are received again
	leaving      int         // pending calls of Leave

	at          position // without an epoch: no history, as far as known
	lossy       bool     // messages that the server dropped for this client cannot be fetched
	pendingJoin *request // pending join from at; kept messages follow its answer
	full        bool     // a message did not fit into the queue
	joinDue     bool     // join from at unless the client leaves

	requestedUpTo uint64 // messages up to this offset were asked for, so duplicates are delivered
	recovering    bool   // call OnRecover when at has reached top
	top           uint64 // offset
	recovered     int    // messages recovered so far
}

// members are the rooms of a client, in the order in which it joined them.
type members struct {
	requests *requests
	stream   *stream

	mu         sync.Mutex
	all        []*room
	lastLoss   error      // how the last connection ended
	rejoining  int        // rooms that this connection has not joined again yet
	recoveries []Recovery // not yet reported to OnRecover
}

// joinCause is the reason for a join that continues from a position.
type joinCause uint8

const (
	reconnected joinCause = iota // there is a new connection
	readded                      // the application had added the client over an earlier connection
	gapFound                     // messages before a received one are missing
	drained                      // the consumer has caught up
)

// find requires that ms.mu is held, like all functions that take a *room.
func (ms *members) find(name string) *room {
	i := slices.IndexFunc(ms.all, func(r *room) bool { return r.name == name })
	if i < 0 {
		return nil
	}
	return ms.all[i]
}

func (ms *members) remove(r *room) {
	ms.all = slices.DeleteFunc(ms.all, func(other *room) bool { return other == r })
}

// begin returns the requests that join the rooms again over a new connection. It reports whether
// all messages that are missing are kept. Kept messages of a room are ignored until its join is
// answered.
func (ms *members) begin(lastLoss error) (joins []*request, kept bool) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	ms.lastLoss, kept = lastLoss, true
	for _, r := range ms.all {
		ms.requests.cancel(r.pendingJoin)
		r.pendingJoin, r.addition = nil, nil
		kept = kept && (!r.joined || r.at.Epoch != "")
		switch {
		case r.added: // a joined frame follows if the application adds it again
			r.joined, r.full, r.joinDue = false, false, false
		case r.joined:
			joins = append(joins, ms.rejoin(r, reconnected))
		}
	}
	ms.rejoining = len(joins)
	ms.forgetFormer()
	return joins, kept
}

// rejoin prepares a join that continues from the position.
func (ms *members) rejoin(r *room, why joinCause) *request {
	o := outgoing{Type: wire.RequestJoin, Room: r.name, Since: since(r.at)}
	if r.added {
		o.Type = wire.RequestRecover
	}

	// The error is ignored because a name that was joined can be encoded.
	r.pendingJoin, _ = ms.requests.prepare(o, false, func(res result) { ms.rejoined(r, why, res) })
	r.full, r.joinDue = false, false
	return r.pendingJoin
}

// requestJoin sends a join that continues from the position.
func (ms *members) requestJoin(r *room, why joinCause) {
	if r.joinDue = r.leaving > 0; r.joinDue {
		return
	}
	if ms.requests.add(ms.rejoin(r, why)) != nil {
		r.pendingJoin = nil
	}
}

// rejoined is called by the reader with the answer.
func (ms *members) rejoined(r *room, why joinCause, res result) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	r.pendingJoin = nil
	switch {
	case !slices.Contains(ms.all, r), !r.joined: // removed meanwhile
	case res.err != nil && r.added:
		ms.recoverRefused(r, why, res.err)
	case res.err != nil && r.addition != nil: // the application has added the client
		r.added, r.addition = true, nil
		ms.requestJoin(r, readded)
	case res.err != nil:
		ms.remove(r)
		ms.stream.addError(&RoomError{Room: r.name, Err: res.err})
		if why != reconnected { // the client is still a member, but has no position
			ms.sendLeave(r.name)
		}
	default:
		r.addition = nil
		ms.applyJoin(r, r.at, why, decodeJoin(res.content))
	}
	if why != reconnected {
		return
	}
	if ms.rejoining--; ms.rejoining == 0 {
		ms.stream.release()
	}
}

// beginJoin notes that a join is pending until the returned function is called.
func (ms *members) beginJoin(name string, from realtime.From) (end func()) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	r := ms.find(name)
	if r == nil {
		r = &room{name: name}
		ms.all = append(ms.all, r)
	}
	historyJoins := 0
	if from != (realtime.From{}) {
		historyJoins = 1
	}
	r.joining++
	r.historyJoins += historyJoins
	return func() {
		ms.mu.Lock()
		defer ms.mu.Unlock()
		r.historyJoins -= historyJoins
		if r.joining--; r.joining > 0 || r.joined {
			return
		}
		switch addition := r.addition; {
		case addition != nil: // the join failed, but the application has added the client
			r.addition = nil
			ms.admit(r, *addition)
		case !r.added:
			ms.remove(r)
		}
	}
}

// joined is called by the reader with the answer to a call of Join that began at from.
func (ms *members) joined(name string, from realtime.From, content json.RawMessage) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	r := ms.find(name)
	if r == nil { // no call waits for the answer any more
		return
	}
	former := r.added && !r.joined
	if former && from != (realtime.From{}) {
		r.at = position{}
	}
	r.joined, r.added, r.addition = true, false, nil
	switch {
	case r.at.Epoch == "":
		ms.applyJoin(r, from.Since, gapFound, decodeJoin(content))
		r.requestedUpTo = r.top // the application has asked for these messages
	case former:
		ms.requestJoin(r, readded)
	}
}

// beginLeave notes that a leave is pending until the returned function is called.
func (ms *members) beginLeave(name string) (end func()) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	r := ms.find(name)
	if r == nil {
		return func() {}
	}
	r.leaving++
	return func() {
		ms.mu.Lock()
		defer ms.mu.Unlock()
		if r.leaving--; r.joinDue && r.joined && slices.Contains(ms.all, r) {
			why := gapFound
			if r.full {
				why = drained
			}
			ms.requestJoin(r, why)
		}
	}
}

// left is called by the reader when the client is no longer in a room. It reports whether the
// client had joined the room itself. A pending call of Join starts again. A join that the client
// repeats by itself is undone.
func (ms *members) left(name string) bool {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	r := ms.find(name)
	if r == nil || !r.joined && !r.added {
		return false
	}
	ms.remove(r)
	given := r.added
	switch {
	case r.joining > 0:
		*r = room{name: name, joining: r.joining, historyJoins: r.historyJoins, leaving: r.leaving}
		ms.all = append(ms.all, r)
	case r.pendingJoin != nil && !r.added:
		ms.sendLeave(name)
	}
	return !given
}

// sendLeave leaves a room that the application has not asked for.
func (ms *members) sendLeave(name string) {
	leave, _ := ms.requests.prepare(outgoing{Type: wire.RequestLeave, Room: name}, false, nil)
	_ = ms.requests.add(leave) // fails only after the client has ended
}
