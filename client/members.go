package client

import (
	"encoding/json"
	"slices"
	"sync"

	"github.com/realtime-go/realtime"
)

// room is a room that the client is in or has asked to join, with its position there. It may also
// be one to which the application added the client over an earlier connection.
type room struct {
	name    string
	joined  bool
	given   bool        // the application added the client, which cannot join by itself
	offer   *joinAnswer // of an addition during a join, whose answer decides; may be nil
	asked   int         // pending calls of Join
	anew    int         // of these, calls that ask for earlier messages, which are received again
	leaving int         // pending calls of Leave

	at    position // without an epoch: no history, as far as known
	lossy bool     // messages that the server dropped for this client cannot be fetched
	again *request // pending join from at; kept messages follow its answer
	full  bool     // a message did not fit into the queue
	due   bool     // join from at unless the client leaves

	past   uint64 // messages up to this offset were asked for, so duplicates are delivered
	owes   bool   // call OnRecover when at has reached top
	top    uint64 // offset
	caught int    // messages recovered so far
}

// members are the rooms of a client, in the order in which it joined them.
type members struct {
	requests *requests
	stream   *stream

	mu        sync.Mutex
	all       []*room
	lost      error      // how the last connection ended
	rejoining int        // rooms that this connection has not joined again yet
	recovered []Recovery // not yet reported to OnRecover
}

// occasion is the reason for a join that continues from a position.
type occasion uint8

const (
	reconnected occasion = iota
	regiven              // the application had added the client over an earlier connection
	hole                 // messages before a received one are missing
	drained              // the consumer has caught up
)

// find requires that ms.mu is held, like all functions that take a *room.
func (ms *members) find(name string) *room {
	i := slices.IndexFunc(ms.all, func(r *room) bool { return r.name == name })
	if i < 0 {
		return nil
	}
	return ms.all[i]
}

func (ms *members) drop(r *room) {
	ms.all = slices.DeleteFunc(ms.all, func(other *room) bool { return other == r })
}

// begin returns the requests that join the rooms again over a new connection. It reports whether
// all messages that are missing are kept. Kept messages of a room are ignored until its join is
// answered.
func (ms *members) begin(lost error) (joins []*request, kept bool) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	ms.lost, kept = lost, true
	for _, r := range ms.all {
		ms.requests.forget(r.again)
		r.again, r.offer = nil, nil
		kept = kept && (!r.joined || r.at.Epoch != "")
		switch {
		case r.given: // a joined frame follows if the application adds it again
			r.joined, r.full, r.due = false, false, false
		case r.joined:
			joins = append(joins, ms.rejoin(r, reconnected))
		}
	}
	ms.rejoining = len(joins)
	ms.forgetAway()
	return joins, kept
}

// rejoin prepares a join that continues from the position.
func (ms *members) rejoin(r *room, why occasion) *request {
	o := outgoing{Type: "join", Room: r.name, Since: since(r.at)}
	if r.given {
		o.Type = "recover"
	}

	// The error is ignored because a name that was joined can be encoded.
	r.again, _ = ms.requests.prepare(o, false, func(res result) { ms.rejoined(r, why, res) })
	r.full, r.due = false, false
	return r.again
}

// ask sends a join that continues from the position.
func (ms *members) ask(r *room, why occasion) {
	if r.due = r.leaving > 0; r.due {
		return
	}
	if ms.requests.add(ms.rejoin(r, why)) != nil {
		r.again = nil
	}
}

// rejoined is called by the reader with the answer.
func (ms *members) rejoined(r *room, why occasion, res result) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	r.again = nil
	switch {
	case !slices.Contains(ms.all, r), !r.joined: // removed meanwhile
	case res.err != nil && r.given:
		ms.unrecovered(r, why, res.err)
	case res.err != nil && r.offer != nil: // the application has added the client
		r.given, r.offer = true, nil
		ms.ask(r, regiven)
	case res.err != nil:
		ms.drop(r)
		ms.stream.fail(&RoomError{Room: r.name, Err: res.err})
		if why != reconnected { // the client is still a member, but has no position
			ms.part(r.name)
		}
	default:
		r.offer = nil
		ms.enter(r, r.at, why, decodeJoin(res.content))
	}
	if why != reconnected {
		return
	}
	if ms.rejoining--; ms.rejoining == 0 {
		ms.stream.release()
	}
}

// asks notes that a join is pending until the returned function is called.
func (ms *members) asks(name string, from realtime.From) (answered func()) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	r := ms.find(name)
	if r == nil {
		r = &room{name: name}
		ms.all = append(ms.all, r)
	}
	anew := 0
	if from != (realtime.From{}) {
		anew = 1
	}
	r.asked++
	r.anew += anew
	return func() {
		ms.mu.Lock()
		defer ms.mu.Unlock()
		r.anew -= anew
		if r.asked--; r.asked > 0 || r.joined {
			return
		}
		switch offer := r.offer; {
		case offer != nil: // the join failed, but the application has added the client
			r.offer = nil
			ms.admit(r, *offer)
		case !r.given:
			ms.drop(r)
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
	away := r.given && !r.joined
	if away && from != (realtime.From{}) {
		r.at = position{}
	}
	r.joined, r.given, r.offer = true, false, nil
	switch {
	case r.at.Epoch == "":
		ms.enter(r, from.Since, hole, decodeJoin(content))
		r.past = r.top // the application has asked for these messages
	case away:
		ms.ask(r, regiven)
	}
}

// leaves notes that a leave is pending until the returned function is called.
func (ms *members) leaves(name string) (answered func()) {
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
		if r.leaving--; r.due && r.joined && slices.Contains(ms.all, r) {
			why := hole
			if r.full {
				why = drained
			}
			ms.ask(r, why)
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
	if r == nil || !r.joined && !r.given {
		return false
	}
	ms.drop(r)
	given := r.given
	switch {
	case r.asked > 0:
		*r = room{name: name, asked: r.asked, anew: r.anew, leaving: r.leaving}
		ms.all = append(ms.all, r)
	case r.again != nil && !r.given:
		ms.part(name)
	}
	return !given
}

// part leaves a room that the application has not asked for.
func (ms *members) part(name string) {
	leave, _ := ms.requests.prepare(outgoing{Type: "leave", Room: name}, false, nil)
	_ = ms.requests.add(leave) // fails only after the client has ended
}
