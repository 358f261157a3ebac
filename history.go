package realtime

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/defaults"
)

// Position is a place in the history of a room or in an inbox: after the message with this offset,
// or before all messages if the offset is zero.
//
// Offsets grow within one history and may skip numbers. If a history is lost and begins anew, for
// example because the process restarted and kept it in memory, it has another epoch: so an old
// position is never mistaken for one of the new history.
type Position struct {
	Epoch  string `json:"epoch"`
	Offset uint64 `json:"offset"`
}

// Reason says why missed messages could not be recovered.
type Reason = broker.Reason

// The reasons.
const (
	ReasonExpired  = broker.ReasonExpired  // they were too old
	ReasonOverflow = broker.ReasonOverflow // they were too many
	ReasonEpoch    = broker.ReasonEpoch    // the history was lost and has begun anew
	ReasonAhead    = broker.ReasonAhead    // the history never had the position
	ReasonUnknown  = broker.ReasonUnknown  // nothing is kept
	ReasonTaken    = broker.ReasonTaken    // nothing is missing: all readers have acknowledged them
)

// Retention says how many messages a room or an inbox keeps. Messages beyond any of the limits are
// discarded, the oldest first.
type Retention struct {
	// Messages is the number of messages. Zero or negative: none are kept.
	Messages int
	// Age is how long a message is kept. Zero: 24 hours. Negative: without limit.
	Age time.Duration
	// Bytes is the size of all messages: their content and about 256 bytes each. Zero: 1 MiB.
	// Negative: without limit.
	Bytes int
}

// HistoryQuery asks for a part of a room's history. The zero query asks for the newest messages.
type HistoryQuery struct {
	// Limit is the number of messages at most. Zero or negative: 100. There may be fewer, because
	// one answer has about 64 KiB.
	Limit int
	// Before asks for the newest messages before a position. After asks for the oldest messages
	// after a position instead. Zero: no bound.
	Before, After Position
}

// History is a part of what a room keeps.
type History struct {
	Messages []KeptMessage // the oldest first
	// More reports whether there are more messages in the direction of the query.
	More bool
	// Top is the position of the newest message.
	Top Position
	// Missing says why some messages after HistoryQuery.After are not kept any more. Empty if none
	// are missing.
	Missing Reason
}

// KeptMessage is a message that a room keeps.
type KeptMessage struct {
	Message
	Position Position
	// Target is where it was sent: a connection that it excludes did not get it.
	Target Target
}

// History returns a part of what the room keeps, also messages that were not for everybody: before
// the application shows one to a user, it checks the message's Target. History waits for the broker
// until ctx ends. It returns ErrNoHistory for a room that keeps nothing, ErrInvalidPosition if Before or
// After is not a position of the history, and errors of the broker.
func (r Room) History(ctx context.Context, q HistoryQuery) (History, error) {
	if err := r.check(); err != nil {
		return History{}, err
	}
	query := broker.Query{Limit: q.Limit, Before: q.Before.Offset, Backwards: true}
	if q.After != (Position{}) {
		query.After, query.Backwards = q.After.Offset, false
	}
	page, err := r.m.publisher.history(ctx, r.name, query)
	if err != nil {
		return History{}, err
	}
	h := History{More: page.More, Top: Position(page.Top)}
	for _, at := range []Position{q.Before, q.After} {
		if at != (Position{}) && (at.Epoch != page.Top.Epoch || at.Offset > page.Top.Offset) {
			return History{}, ErrInvalidPosition
		}
	}
	if q.After != (Position{}) {
		h.Missing = page.GapAfter(broker.Position(q.After))
	}
	for i := range page.Publications {
		p := &page.Publications[i]
		h.Messages = append(h.Messages, KeptMessage{
			Message(p.Message), Position(p.Position), Target(p.Target),
		})
	}
	if query.Backwards {
		slices.Reverse(h.Messages)
	}
	return h, nil
}

// The defaults of Retention.
const (
	defaultAge   = 24 * time.Hour
	defaultBytes = 1 << 20
)

// resolved fills in the defaults. Zero is no limit then, except for Messages.
func (r Retention) resolved() Retention {
	r.Messages = max(0, r.Messages)
	defaults.Set(&r.Age, defaultAge)
	defaults.Set(&r.Bytes, defaultBytes)
	return r
}

// publisher gives messages to the broker where something of them is kept, and to the broadcaster.
type publisher struct{ m *Manager }

// publish gives a message to its receivers. If some of it is kept, all of it goes through the
// broker, a part for each stream, and comes back by Deliver. Otherwise it is delivered from here,
// or by a broker that serves other processes too. If it returns an error, some parts may have been
// taken.
func (x *publisher) publish(ctx context.Context, p broker.Publication) (Result, error) {
	if !x.m.opts.keeps() || p.Message.TTL < 0 {
		return x.publishLive(ctx, p)
	}
	parts, err := x.splitTarget(ctx, p.Target)
	if err != nil {
		return Result{}, err
	}
	if len(parts) == 0 {
		return x.publishLive(ctx, p)
	}
	cloneBytes(&p)
	var had *dedupSet
	if len(parts) > 1 {
		had, p.Union = new(dedupSet), true
		if p.Message.ID == "" { // by which a client knows that it is the same
			p.Message.ID = uuid.NewString()
		}
	}
	return x.publishParts(ctx, &p, parts, had)
}

// publishLive delivers what is not kept.
func (x *publisher) publishLive(ctx context.Context, p broker.Publication) (Result, error) {
	if x.m.broker.Local() {
		return x.m.broadcast.deliver(&p), nil
	}
	cloneBytes(&p) // it is the caller's, who may use it again
	p.Target = cloneTarget(p.Target)
	_, err := x.m.broker.Publish(ctx, p)
	return Result{}, err
}

// history returns a part of what a room has kept.
func (x *publisher) history(ctx context.Context, room string, q broker.Query) (broker.Page, error) {
	p := x.m.policyOf(room)
	if !p.Keeps() {
		return broker.Page{}, ErrNoHistory
	}
	return x.m.broker.Read(ctx, broker.RoomStream(room), q)
}

// cloneBytes makes the publication independent of what the caller of Send may use again.
func cloneBytes(p *broker.Publication) {
	m := &p.Message
	m.Content, m.Binary = bytes.Clone(m.Content), bytes.Clone(m.Binary)
	t := &p.Target
	t.ExceptConns, t.ExceptUsers = slices.Clone(t.ExceptConns), slices.Clone(t.ExceptUsers)
}

// maxInboxes is how many inboxes a message is put into at once: their streams are held meanwhile.
const maxInboxes = 256

// keptPart is what becomes of one part of a message.
type keptPart struct {
	user   string // whose inbox it is put into
	flight origin // may be still up after an error
	missed bool   // it was kept for a user who has no connection
}

// splitTarget takes a message apart, if some of it is kept: what is not kept comes first, rooms come
// before inboxes.
//
// Members of a room see one order because of this. What is not kept is not ordered by a stream but
// by the locks of its rooms, and is delivered while the streams of the others are held: a
// connection that is in both kinds of rooms gets the message at its place in the plain ones, and
// nothing else comes in between in the kept ones.
func (x *publisher) splitTarget(ctx context.Context, t broker.Target) (parts []broker.Publication, err error) {
	var rooms, users []string // of which it is kept
	for _, name := range sorted(t.Rooms) {
		if own := x.m.policyOf(name); own.Keeps() {
			rooms = append(rooms, name)
			parts = append(parts, broker.Publication{
				Stream: broker.RoomStream(name), Target: broker.Target{Rooms: []string{name}}, Keep: own.Keep,
			})
		}
	}
	for _, id := range sorted(t.Users) {
		keeps, err := x.keepsFor(ctx, id, &t)
		if err != nil {
			return nil, err
		}
		if keeps {
			users = append(users, id)
			keep := x.m.inboxes.policy.Keep
			parts = append(parts, broker.Publication{Stream: broker.InboxStream(id), Target: broker.Target{Users: []string{id}}, Keep: keep})
		}
	}
	if len(parts) == 0 {
		return nil, nil
	}
	t.Rooms, t.Users = others(t.Rooms, rooms), others(t.Users, users)
	if nobody(&t) {
		return parts, nil
	}
	return slices.Insert(parts, 0, broker.Publication{Target: cloneTarget(t)}), nil
}

// others returns names without some of them.
func others(names, without []string) []string {
	switch {
	case len(without) == 0:
		return names
	case len(without) == len(names):
		return nil
	}
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return slices.Contains(without, name)
	})
}

// keepsFor reports whether a message is kept for a user.
func (x *publisher) keepsFor(ctx context.Context, id string, t *broker.Target) (bool, error) {
	ib := x.m.inboxes
	if !ib.policy.Keeps() || slices.Contains(t.ExceptUsers, id) {
		return false, nil
	}
	if u := x.m.users.find(id); u != nil {
		x.m.users.leave(u)
		return true, nil
	}
	return ib.exists(ctx, id)
}

// publishParts publishes the parts of a message and adds up what became of them. had, if there is more than
// one part, is who has had it.
func (x *publisher) publishParts(
	ctx context.Context, p *broker.Publication, parts []broker.Publication, had *dedupSet,
) (res Result, err error) {
	size := p.Size()
	for i := range parts { // before anything else would go for it
		if keep := &parts[i].Keep; keep.Bytes > 0 && size > keep.Bytes {
			return res, fmt.Errorf("%w to be kept: %d bytes, limit %d", ErrTooLarge, size, keep.Bytes)
		}
	}
	res.Local = x.m.broker.Local()
	shelves := x.prepareParts(p, parts, had)
	for done := 0; done < len(parts) && err == nil; {
		n := atOnce(shelves[done:])
		var took []broker.Published
		took, err = x.m.broker.Publish(ctx, parts[done:done+n]...)
		for i := range took {
			shelves[done+i].count(&res, &took[i])
		}
		if len(parts) == 1 && err == nil {
			res.Position = Position(took[0].Position)
		}
		done += n
	}
	if err == nil && res.Full == len(parts) {
		err = errShare
	}
	for i := range shelves {
		if s := &shelves[i]; s.missed {
			x.m.inboxes.tellOffline(ctx, s.user, &p.Message)
		}
	}
	return res, err
}

// prepareParts fills in what the parts of a message have in common.
func (x *publisher) prepareParts(p *broker.Publication, parts []broker.Publication, had *dedupSet) []keptPart {
	shelves := make([]keptPart, len(parts))
	for i := range parts {
		s, pub := &shelves[i], &parts[i]
		s.flight = origin{result: Result{Local: x.m.broker.Local()}, audience: had}
		if user, inbox := broker.StreamUser(pub.Stream); inbox {
			s.user = user
			pub.Shared = p.Message.From() != broker.Sender{}
		}
		pub.Message, pub.Union, pub.Origin = p.Message, p.Union, &s.flight
		pub.Target.ExceptConns, pub.Target.ExceptUsers = p.Target.ExceptConns, p.Target.ExceptUsers
	}
	return shelves
}

// atOnce returns how many parts are published at once: all but inboxes beyond the bound, between
// which there is no order.
func atOnce(shelves []keptPart) int {
	n := 0
	for n < len(shelves) && shelves[n].user == "" {
		n++
	}
	return min(len(shelves), n+maxInboxes)
}

// count adds what became of one part of a message.
func (s *keptPart) count(r *Result, took *broker.Published) {
	r.sum(s.flight.result)
	switch {
	case took.Duplicate:
		r.Duplicate = true
	case took.Full:
		r.Full++
	case took.Position.Epoch != "":
		r.Kept++
		if s.missed = s.user != "" && !s.flight.online; s.missed {
			r.Offline++
		}
	}
}

// origin is what a publication leaves behind in the process that sends it.
type origin struct {
	result   Result
	online   bool      // the user whose inbox it is has a connection
	audience *dedupSet // who has had it, if it has several parts
}
