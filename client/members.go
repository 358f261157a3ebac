package client

import (
	"encoding/json"
	"slices"
	"sync"

	"github.com/realtime-go/realtime"
)

// room is one that the client is in, or asks for, and how far it has come there; or one that it was
// given over an older connection.
type room struct {
	name    string
	joined  bool
	given   bool        // by the server's application: the client cannot join it by itself
	offer   *joinAnswer // where it was given while a join is not answered, which decides; may be nil
	asked   int         // calls of Join that are not answered
	anew    int         // of these, how many begin with what was sent before, which comes again
	leaving int         // calls of Leave that are not answered

	at    position // without an epoch: nothing is kept, as far as is known
	lossy bool     // what the server has left out is not to be had again
	again *request // a join from at that is not answered: what is kept comes behind the answer
	full  bool     // what came was not taken, because the consumer is behind
	due   bool     // a join from at, if it turns out that the client does not leave

	past   uint64 // offset up to which what comes was asked for, and is given anew
	owes   bool   // OnRecover, when at has come to top
	top    uint64 // offset
	caught int    // messages meanwhile
}

// members are the rooms of a client, in the order of their joins.
type members struct {
	requests *requests
	stream   *stream

	mu        sync.Mutex
	all       []*room
	lost      error      // how the last connection ended
	rejoining int        // rooms that the connection has not joined again yet
	recovered []Recovery // that OnRecover is not told of yet
}

// occasion is why a room is joined from the position on.
type occasion uint8

const (
	reconnected occasion = iota
	regiven              // it was given over an older connection
	hole                 // in front of a message
	drained              // the consumer has caught up
)

// find needs ms.mu, like all that begins with a room.
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

// begin has the rooms joined again over a new connection: it returns the requests for that, and
// whether all that is missing meanwhile is kept. What comes of a room before is not taken.
func (ms *members) begin(lost error) (joins []*request, kept bool) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	ms.lost, kept = lost, true
	for _, r := range ms.all {
		ms.requests.forget(r.again)
		r.again, r.offer = nil, nil
		kept = kept && (!r.joined || r.at.Epoch != "")
		switch {
		case r.given: // if it is again, joined says so
			r.joined, r.full, r.due = false, false, false
		case r.joined:
			joins = append(joins, ms.rejoin(r, reconnected))
		}
	}
	ms.rejoining = len(joins)
	ms.forgetAway()
	return joins, kept
}

// rejoin makes the request for a join from the position on.
func (ms *members) rejoin(r *room, why occasion) *request {
	o := outgoing{Type: "join", Room: r.name, Since: since(r.at)}
	if r.given {
		o.Type = "recover"
	}
	// A name that was joined can be encoded.
	r.again, _ = ms.requests.prepare(o, false, func(res result) { ms.rejoined(r, why, res) })
	r.full, r.due = false, false
	return r.again
}

// ask sends it.
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
	case !slices.Contains(ms.all, r), !r.joined: // it was taken away meanwhile
	case res.err != nil && r.given:
		ms.unrecovered(r, why, res.err)
	case res.err != nil && r.offer != nil: // it is in nevertheless
		r.given, r.offer = true, nil
		ms.ask(r, regiven)
	case res.err != nil:
		ms.drop(r)
		ms.stream.fail(&RoomError{Room: r.name, Err: res.err})
		if why != reconnected { // it is a member, and knows no position any more
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

// asks notes that a join is on its way, until the returned function is called.
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
		case offer != nil: // it was not let in, and is in nevertheless
			r.offer = nil
			ms.admit(r, *offer)
		case !r.given:
			ms.drop(r)
		}
	}
}

// joined is called by the reader when a join of the application is answered that began at from.
func (ms *members) joined(name string, from realtime.From, content json.RawMessage) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	r := ms.find(name)
	if r == nil { // nobody waits for the answer any more
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
		r.past = r.top // the application has asked for it
	case away:
		ms.ask(r, regiven)
	}
}

// leaves notes that a leave is on its way, until the returned function is called.
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

// left is called by the reader when the client is not in a room any more, and reports whether that
// is one that it had asked for. A join of the application that is on its way begins anew. One of
// our own does not count.
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

// part leaves a room for which the application has not asked.
func (ms *members) part(name string) {
	leave, _ := ms.requests.prepare(outgoing{Type: "leave", Room: name}, false, nil)
	_ = ms.requests.add(leave) // else everything has ended
}
