package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/wire"
)

// maxState is the size of the largest state, in bytes.
const maxState = 1 << 10

// watch is what the client knows about the other members of a room, and what it says about itself.
type watch struct {
	wanted  bool // the client has joined with JoinOptions.Presence, or watches the room without that
	refused bool // a join with JoinOptions.Presence was refused: if the room is added, watch it
	pending bool // a pending join, room.pendingJoin, asks for presence
	lost    bool // a difference did not fit: the next join asks for everything
	known   bool // the server has said what the room shows
	fold    fold
	key     string // of this client's entry; empty if not known

	state        json.RawMessage // of this client; nil: it has said nothing
	accepted     json.RawMessage // the state that the server has; nil: none, as far as known
	stateRequest *request        // pending; nil: none
	stateChanges int             // calls of SetState
}

// presenceEvent is a call of OnPresence that is due.
type presenceEvent struct {
	room   string
	now    Presence
	change PresenceChange
}

func (ms *members) presenceOf(name string) (Presence, bool) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	r := ms.find(name)
	if r == nil || !r.joined || !r.watch.known {
		return Presence{}, false
	}
	return r.watch.fold.shown, true
}

// ownKey returns the key of this client's entry in a room, or an empty one if it is not known.
func (ms *members) ownKey(name string) string {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if r := ms.find(name); r != nil {
		return r.watch.key
	}
	return ""
}

// takePresence returns the calls of OnPresence that are due since the last call.
func (ms *members) takePresence() []presenceEvent {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	events := ms.presence
	ms.presence = nil
	return events
}

// receivePresence applies a frame of type presence, with its text.
func (ms *members) receivePresence(text []byte) {
	var f presenceFrame
	if json.Unmarshal(text, &f) != nil || f.Version > maxVersion ||
		f.Version == 0 && f.Show != ShowNothing {
		return
	}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	r := ms.find(f.Room)
	if r == nil || !r.joined || !r.watch.wanted {
		return
	}
	w := &r.watch
	if !w.fold.accepts(&f) {
		ms.losePresence(r)
		return
	}
	if next, ok := w.fold.next(&f, w.key); ok {
		w.fold.version = f.Version
		ms.show(r, next)
	}
}

// losePresence asks for everything, once.
func (ms *members) losePresence(r *room) {
	if r.watch.pending || r.watch.lost {
		return
	}
	r.watch.lost = true
	if r.pendingJoin == nil {
		ms.requestJoin(r, drained) // no messages are missing
	}
}

// watchAdded watches a room to which the application has added the client if a join with
// JoinOptions.Presence was refused. It reports whether there is something to ask for.
func (ms *members) watchAdded(r *room) bool {
	w := &r.watch
	if !w.refused || w.wanted {
		return false
	}
	w.wanted, w.refused = true, false
	return true
}

// watchRefused handles a refused recover request that asked for presence: the client may not watch
// the room, but may have what else it asked for.
func (ms *members) watchRefused(r *room, why joinCause, err error) {
	w := &r.watch
	w.wanted, w.lost, w.known, w.fold = false, false, false, fold{}
	ms.stream.addError(&RoomError{Room: r.name, Err: err, Member: true})
	if r.at.Epoch != "" || r.values.held {
		ms.requestJoin(r, why)
	}
}

// show notes what a room shows.
func (ms *members) show(r *room, now Presence) {
	w := &r.watch
	change, changed := compare(&w.fold.shown, &now)
	if !changed && w.known {
		return
	}
	w.known, w.fold.shown = true, now
	ms.presence = append(ms.presence, presenceEvent{r.name, now, change})
}

// askForPresence returns the member presence of a join that continues the membership, or nil.
func (w *watch) askForPresence(why joinCause) any {
	switch {
	case !w.wanted:
		return nil
	case w.lost:
	case why == reconnected, why == readded:
		if w.fold.version != 0 {
			w.pending = true
			return w.fold.version
		}
	default:
		return nil
	}
	w.pending, w.lost = true, false
	return true
}

// watchAnswered applies the answer to a join, and a joined frame.
func (ms *members) watchAnswered(r *room, a *joinAnswer) {
	w := &r.watch
	if a.Key != "" {
		w.key = a.Key
	}
	if w.wanted && a.Show == ShowNothing { // no frames follow
		w.fold.version = 0
		ms.show(r, Presence{Show: ShowNothing})
	}
}

// SetState replaces what the client says about itself to the members of a room that are shown the
// others: any JSON of at most 1 KiB, such as a name, a colour or a position. A json.RawMessage is
// sent as it is, and any other value as encoding/json encodes it; nil means no state. The client
// must be in the room, or a Join must be in progress.
//
// SetState does not wait for the server, nor for a connection. Of several states that wait to be
// sent, the newest is sent. The client sends the state again with each later join of the room,
// until it leaves. If the server refuses the state, [Client.Messages] yields a *[RoomError] whose
// Member is true, and the state is again the one before.
//
// It returns realtime.ErrInvalidName if room is not a name, realtime.ErrInvalidMessage if the state
// is not JSON, realtime.ErrTooLarge if it is too large, a *realtime.Error with the code "no_member"
// if the client is not in the room, and an error that matches realtime.ErrClosed after the client
// has ended.
func (c *Client) SetState(room string, state any) error {
	if err := realtime.ValidName(room); err != nil {
		return err
	}
	encoded, err := encodeState(state)
	if err != nil {
		return err
	}
	return c.session.members.setState(room, encoded)
}

// encodeState returns JSON without spaces: null for nil.
func encodeState(state any) (json.RawMessage, error) {
	if _, ok := state.([]byte); ok {
		return nil, fmt.Errorf("%w: a state in bytes", realtime.ErrInvalidMessage)
	}
	encoded, err := marshal(state)
	if err != nil {
		return nil, err
	}
	if len(encoded) > maxState {
		return nil, fmt.Errorf("%w: state of %d bytes, limit %d",
			realtime.ErrTooLarge, len(encoded), maxState)
	}
	return encoded, nil
}

func (ms *members) setState(name string, state json.RawMessage) error {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	r := ms.find(name)
	if r == nil || !r.joined && r.joining == 0 {
		return &realtime.Error{Code: wire.CodeNoMember, Message: "the client is not in the room"}
	}
	r.watch.state = state
	r.watch.stateChanges++
	return ms.syncState(r)
}

// syncState sends the state if the server has another one, with one request at a time.
func (ms *members) syncState(r *room) error {
	w := &r.watch
	if !r.joined || r.joining > 0 || w.stateRequest != nil || w.state == nil ||
		bytes.Equal(w.state, w.accepted) {
		return nil
	}
	sent := w.state
	o := outgoing{Type: wire.RequestState, Room: r.name, State: sent}
	settle := func(res result) { ms.stateAnswered(r, sent, res.err) }
	request, err := ms.requests.prepare(o, false, settle)
	if err != nil {
		return err
	}
	if err := ms.requests.add(request); err != nil {
		return err
	}
	w.stateRequest = request
	return nil
}

// stateAnswered is called by the reader with the answer to a state.
func (ms *members) stateAnswered(r *room, sent json.RawMessage, err error) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	w := &r.watch
	w.stateRequest = nil
	if !r.joined || !slices.Contains(ms.all, r) { // removed meanwhile
		return
	}
	if err == nil {
		w.accepted = sent
	} else {
		ms.stream.addError(&RoomError{Room: r.name, Err: err, Member: true})
		if bytes.Equal(w.state, sent) {
			w.state = w.accepted
		}
	}
	_ = ms.syncState(r) // it fails only after the client has ended
}

// stateOfJoin returns the state for a join over a new connection: the last one that the server has
// accepted. A newer one follows after the answer: if it is refused, the client stays in the room.
func (w *watch) stateOfJoin() json.RawMessage { return w.accepted }
