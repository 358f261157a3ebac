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
	addition     *joinAnswer // an addition during a join, whose answer decides; may be nil
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

	watch  watch
	values values
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
	presence   []presenceEvent
	values     values // for this connection, over all sessions
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

// forget is remove for a room that a pending call of Join may join again.
func (ms *members) forget(r *room) {
	ms.remove(r)
	if r.joining > 0 {
		again := room{
			name: r.name, joining: r.joining, historyJoins: r.historyJoins, leaving: r.leaving,
		}
		again.watch.state, again.watch.stateChanges = r.watch.state, r.watch.stateChanges
		*r = again
		ms.all = append(ms.all, r)
	}
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
		if r.addition != nil && !r.joined { // kept messages after it were ignored
			r.joined, r.added = true, true
			if r.at.Epoch == "" {
				r.at = r.addition.Position
			}
		}
		r.pendingJoin, r.addition = nil, nil
		ms.requests.cancel(r.watch.stateRequest)
		r.watch.stateRequest, r.watch.pending = nil, false
		r.values.held = r.values.named
		kept = kept && (!r.joined || r.at.Epoch != "")
		switch {
		case r.added: // a joined frame follows if the application adds it again
			r.joined, r.full, r.joinDue = false, false, false
			r.watch.accepted = nil
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
	if why == reconnected {
		o.State = r.watch.stateOfJoin()
	}
	o.Presence = r.watch.askForPresence(why)
	if r.values.held {
		o.Latest = r.values.version
	}

	releases := why == reconnected
	release := func() {
		if releases {
			releases = false
			ms.rejoinEnded()
		}
	}
	// The error is ignored because a name that was joined can be encoded.
	r.pendingJoin, _ = ms.requests.prepare(o, false, func(res result) {
		ms.mu.Lock()
		defer ms.mu.Unlock()
		ms.rejoined(r, why, res)
		release()
	})
	r.pendingJoin.delayed = func() { // other rooms must not wait for it
		ms.mu.Lock()
		defer ms.mu.Unlock()
		release()
	}
	r.full, r.joinDue = false, false
	return r.pendingJoin
}

// rejoinEnded notes that the consumer need not wait for a room any more.
func (ms *members) rejoinEnded() {
	if ms.rejoining--; ms.rejoining == 0 {
		ms.stream.release()
	}
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
	watched := r.watch.pending
	r.pendingJoin, r.watch.pending = nil, false
	switch {
	case !slices.Contains(ms.all, r), !r.joined: // removed meanwhile
	case res.err != nil && r.added:
		ms.recoverRefused(r, why, watched, res.err)
	case res.err != nil && r.addition != nil: // the application has added the client
		r.added, r.addition = true, nil
		ms.requestJoin(r, readded)
	case res.err != nil:
		ms.forget(r)
		ms.stream.addError(&RoomError{Room: r.name, Err: res.err})
		if why != reconnected { // the client is still a member, but has no position
			ms.sendLeave(r.name)
		}
	default:
		r.addition = nil
		ms.continueRoom(r, why, decodeJoin(res.content))
	}
}

// continueRoom applies the answer to a join that continues from the position.
func (ms *members) continueRoom(r *room, why joinCause, a joinAnswer) {
	ms.applyJoin(r, r.at, why, a)
	ms.watchAnswered(r, &a)
	r.values.held = false
	_ = ms.syncState(r) // it fails only after the client has ended
	if r.watch.lost {
		ms.requestJoin(r, drained)
	}
}

// joinCall is a call of Join that waits for its answer. The answer takes effect in the reader,
// before the next frame, and not when the goroutine of the call continues.
type joinCall struct {
	ms    *members
	room  *room
	from  realtime.From
	ended bool

	presence     bool
	state        json.RawMessage // nil: the call says nothing about it
	stateChanges int             // calls of SetState before this call
}

// beginJoin notes that a join is pending until it is answered or abandoned.
func (ms *members) beginJoin(name string, opts JoinOptions, state json.RawMessage) *joinCall {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	r := ms.find(name)
	if r == nil {
		r = &room{name: name}
		ms.all = append(ms.all, r)
	}
	j := &joinCall{
		ms: ms, room: r, from: opts.From,
		presence: opts.Presence, state: state, stateChanges: r.watch.stateChanges,
	}
	r.joining++
	r.historyJoins += j.historyJoins()
	return j
}

// historyJoins returns 1 if the call asks for earlier messages, and 0 otherwise.
func (j *joinCall) historyJoins() int {
	if j.from == (realtime.From{}) {
		return 0
	}
	return 1
}

// answered is called by the reader.
func (j *joinCall) answered(res result) { j.end(&res) }

// abandon is called when the call returns. It has no effect if there was an answer.
func (j *joinCall) abandon() { j.end(nil) }

// end has a nil answer if there was none.
func (j *joinCall) end(answer *result) {
	j.ms.mu.Lock()
	defer j.ms.mu.Unlock()
	if j.ended {
		return
	}
	j.ended = true
	r := j.room
	r.joining--
	r.historyJoins -= j.historyJoins()
	accepted := answer != nil && answer.err == nil
	if answer != nil && !accepted && j.presence && (r.added || !r.joined) {
		r.watch.refused = true
	}
	switch {
	case accepted:
		j.applyWatch()
		j.ms.joined(r, j.from, decodeJoin(answer.content))
	case r.joined && r.added && j.ms.watchAdded(r):
		j.ms.losePresence(r)
	case r.joining > 0, r.joined:
	case r.addition != nil: // the application has added the client
		j.ms.admitLate(r)
	case !r.added:
		j.ms.remove(r)
	}
	_ = j.ms.syncState(r) // it fails only after the client has ended
}

// applyWatch notes what the accepted call has asked for.
func (j *joinCall) applyWatch() {
	w := &j.room.watch
	w.wanted, w.refused = w.wanted || j.presence, false
	if j.state == nil {
		return
	}
	w.accepted = j.state
	if w.stateChanges == j.stateChanges { // otherwise a later call of SetState counts
		w.state = j.state
	}
}

// joined applies the answer to a call of Join that began at from.
func (ms *members) joined(r *room, from realtime.From, a joinAnswer) {
	former := r.added && !r.joined
	if former && from != (realtime.From{}) {
		r.at = position{}
	}
	addition := r.addition
	r.joined, r.added, r.addition = true, false, nil
	ms.watchAnswered(r, &a)
	switch {
	case r.at.Epoch == "":
		ms.applyJoin(r, from.Since, gapFound, a)
		r.requestedUpTo = r.top // the application has asked for these messages

		// The call has said nothing about the values and the presence that the client has.
		again := former && (r.values.named || r.watch.wanted)
		if addition != nil && !covers(addition.Position, r.at) {
			r.at = addition.Position // the messages in between were ignored
			again = true
		}
		if again {
			r.watch.lost = former && r.watch.wanted
			ms.requestJoin(r, drained)
		}
	case former:
		ms.requestJoin(r, readded)
	}
}

// leaveCall is a call of Leave that waits for its answer, like joinCall.
type leaveCall struct {
	ms    *members
	name  string
	room  *room // nil if the client knew no such room
	ended bool
}

// beginLeave notes that a leave is pending until it is answered or abandoned.
func (ms *members) beginLeave(name string) *leaveCall {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	r := ms.find(name)
	if r != nil {
		r.leaving++
	}
	return &leaveCall{ms: ms, name: name, room: r}
}

// answered is called by the reader.
func (l *leaveCall) answered(res result) {
	if res.err == nil {
		l.ms.left(l.name)
	}
	l.abandon()
}

// abandon is called when the call returns. It has no effect if there was an answer.
func (l *leaveCall) abandon() {
	l.ms.mu.Lock()
	defer l.ms.mu.Unlock()
	r := l.room
	if l.ended || r == nil {
		return
	}
	l.ended = true
	if r.leaving--; r.joinDue && r.joined && slices.Contains(l.ms.all, r) {
		why := gapFound
		if r.full {
			why = drained
		}
		l.ms.requestJoin(r, why)
	}
}

// left is called by the reader when the client is no longer in a room. It reports whether the
// client had joined the room itself. A pending call of Join starts again. A join that the client
// repeats by itself is undone.
func (ms *members) left(name string) bool {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	r := ms.find(name)
	if r == nil || !r.joined && !r.added && r.addition == nil {
		return false
	}
	withdrawn := ms.requests.withdraw(r.pendingJoin)
	if r.joining == 0 && r.pendingJoin != nil && !r.added && !withdrawn {
		ms.sendLeave(name)
	}
	joined := r.joined && !r.added
	ms.forget(r)
	return joined
}

// sendLeave leaves a room that the application has not asked for.
func (ms *members) sendLeave(name string) {
	o := outgoing{Type: wire.RequestLeave, Room: name}
	leave, _ := ms.requests.prepare(o, false, func(res result) {
		if res.err == nil {
			ms.left(name)
		}
	})
	_ = ms.requests.add(leave) // fails only after the client has ended
}
