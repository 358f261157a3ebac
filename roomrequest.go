package realtime

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/wire"
)

// defaultHistory is the limit of a request for history without one.
const defaultHistory = 50

// errStateTooLarge answers a client whose state is too large.
var errStateTooLarge = &Error{
	Code: wire.CodeTooLarge, Message: fmt.Sprintf("the state has more than %d bytes", maxState),
}

// errEpoch answers a client whose position is of an earlier epoch. The application gets
// ErrInvalidPosition.
var errEpoch = &Error{Code: wire.CodeEpoch, Message: "the room has another epoch"}

// joinRequest makes the client a member of a room, from the position that it names.
func (rs *requests) joinRequest(c *Conn, r *wire.Request) error {
	if err := checkMember("room", ValidName(r.Room)); err != nil {
		return err
	}
	began := rs.m.revocations.Begin()
	defer rs.m.revocations.End()
	if !rs.mayJoin(c, r.Room) {
		return ErrForbidden
	}
	e := rs.newJoin(c, r)
	if e.mayNotReadHistory && r.History > 0 {
		return ErrForbidden
	}
	if err := rs.mayUseState(c, r); err != nil {
		return err
	}
	e.began, e.from.Last = began, r.History
	if err := rs.m.events.waitSpace(c.session.Context(), r.Room); err != nil {
		return err
	}
	err := rs.m.joins.join(c.session.Context(), c, e)
	// Messages that were read and notices cost as much as a message to so many receivers.
	c.session.Bill().Receivers(e.messagesRead + e.told + e.owed)
	c.session.Bill().Bytes(e.bytesRead + e.owedBytes)
	r.Answered = err == nil
	return err
}

// recoverRequest sends a member what came after the position that it names. The client need not be
// allowed to join the room.
func (rs *requests) recoverRequest(c *Conn, r *wire.Request) error {
	if err := checkMember("room", ValidName(r.Room)); err != nil {
		return err
	}
	if !c.In(r.Room) { // spares the authorizer; joins.recover decides again under the lock
		return errNoMember
	}
	if err := rs.mayUseState(c, r); err != nil {
		return err
	}
	e := rs.newJoin(c, r)
	err := rs.m.joins.recover(c.session.Context(), c, e)
	c.session.Bill().Receivers(e.owed)
	c.session.Bill().Bytes(e.owedBytes)
	r.Answered = err == nil
	return err
}

// mayUseState returns an error if the client may not watch the room, or may not set its state, and
// its join asks for that.
func (rs *requests) mayUseState(c *Conn, r *wire.Request) error {
	if r.State == nil {
		return nil
	}
	if len(r.State.Own) > maxState {
		return errStateTooLarge
	}
	if r.State.Watch &&
		!rs.commands.allowed(c, &Action{Kind: ActionMembers, Room: r.Room}) ||
		r.State.Own != nil && !rs.commands.allowed(c, &Action{Kind: ActionState, Room: r.Room}) {
		return ErrForbidden
	}
	return nil
}

// stateRequest sets the client's state in a room.
func (rs *requests) stateRequest(c *Conn, r *wire.Request) error {
	if err := checkMember("room", ValidName(r.Room)); err != nil {
		return err
	}
	if r.State == nil {
		r.State = &wire.RoomState{}
	}
	if len(r.State.Own) > maxState {
		return errStateTooLarge
	}
	if !rs.commands.allowed(c, &Action{Kind: ActionState, Room: r.Room}) {
		return ErrForbidden
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.rooms.find(r.Room)
	if m == nil {
		return errNoMember
	}
	found := rs.m.rooms.lock(r.Room)
	defer found.mu.Unlock()
	if err := m.setState(ownState(r.State)); err != nil {
		return err
	}
	c.session.Bill().Receivers(found.state.Watchers())
	return nil
}

// newJoin returns the join of a client that starts after the position that it names. If the
// client may not read history, mayNotReadHistory is set.
func (rs *requests) newJoin(c *Conn, r *wire.Request) *joinOp {
	e := &joinOp{
		room: r.Room, byClient: true, id: r.ID, asked: r.State, from: From{Since: Position(r.Since)},
	}
	past := r.History > 0 || r.Since != (broker.Position{})
	e.mayNotReadHistory = past && !rs.commands.allowed(c, &Action{Kind: ActionHistory, Room: r.Room})
	return e
}

func (rs *requests) leaveRequest(c *Conn, r *wire.Request) error {
	if err := checkMember("room", ValidName(r.Room)); err != nil {
		return err
	}
	if !rs.commands.allowed(c, &Action{Kind: ActionLeave, Room: r.Room, Conn: c.id}) {
		return ErrForbidden
	}
	r.Answered = true
	_, told := rs.m.joins.leave(c, r.Room, func() {
		if r.ID != nil {
			c.answer(wire.Reply(r.ID, nil, nil))
		}
	})
	c.session.Bill().Receivers(told)
	return nil
}

// presenceRequest answers with the presence of a room. The answer has its place among the notices
// of the room: it includes all changes that were announced before it, and no later ones.
func (rs *requests) presenceRequest(c *Conn, r *wire.Request) error {
	if err := checkMember("room", ValidName(r.Room)); err != nil {
		return err
	}
	if !rs.commands.allowed(c, &Action{Kind: ActionMembers, Room: r.Room}) {
		return ErrForbidden
	}
	policy := rs.m.policyOf(r.Room)
	if policy.show == ShowNothing {
		rs.m.log.Once(slog.LevelWarn, "presence", "", "realtime: a client asked for the presence "+
			"of a room that shows nothing: set Options.Show or RoomOptions.Show")
		return ErrForbidden
	}
	if r.ID == nil {
		return nil
	}
	r.Answered = true
	size, absent := 0, rs.m.rooms.listAbsent(c.session.Context(), r.Room, policy)
	rs.m.rooms.inspect(r.Room, absent, func(l *memberList) { size = len(l.content) })
	replies := &rs.m.counters.Queues.Replies
	if err := replies.Reserve(c.session.Context(), int64(size)); err != nil {
		return err
	}
	defer replies.Release(int64(size))
	rs.m.rooms.inspect(r.Room, absent, func(l *memberList) {
		c.session.Bill().Receivers(l.entries) // as much as a message to so many receivers
		c.session.Bill().Bytes(len(l.content))
		c.answer(wire.Reply(r.ID, l.content, nil))
	})
	return nil
}

// historyRequest answers with messages that a room keeps, the oldest first.
func (rs *requests) historyRequest(c *Conn, r *wire.Request) error {
	if err := checkMember("room", ValidName(r.Room)); err != nil {
		return err
	}
	if !rs.commands.allowed(c, &Action{Kind: ActionHistory, Room: r.Room}) {
		return ErrForbidden
	}
	q := broker.Query{
		After: r.After, Before: r.Before, Backwards: !r.Forward, Limit: r.Limit,
		Bytes: broker.DefaultPageBytes,
	}
	if q.Limit == 0 {
		q.Limit = defaultHistory
	}
	replies := &rs.m.counters.Queues.Replies
	if err := replies.Reserve(c.session.Context(), broker.DefaultPageBytes); err != nil {
		return err
	}
	// After the answer is in the send queue, which counts it itself.
	defer replies.Release(broker.DefaultPageBytes)
	page, err := rs.pageFor(c, r.Room, q)
	switch {
	case err != nil:
		return err
	case r.Epoch != "" && r.Epoch != page.Top.Epoch:
		return errEpoch
	case r.ID == nil:
		return nil
	}
	if q.Backwards {
		slices.Reverse(page.Publications)
	}
	r.Answered = true
	c.answer(wire.Reply(r.ID, wire.History(r.Room, &page), nil))
	return nil
}

// pageFor returns the first page with publications for a client. It leaves out those whose target
// excludes the client.
func (rs *requests) pageFor(c *Conn, room string, q broker.Query) (page broker.Page, err error) {
	for {
		page, err = rs.m.publisher.history(c.session.Context(), room, q)
		if err != nil || len(page.Publications) == 0 {
			return page, err
		}
		// They cost as much as a message to so many receivers.
		c.session.Bill().Receivers(len(page.Publications))
		c.session.Bill().Bytes(page.Size())
		last := page.Publications[len(page.Publications)-1].Position.Offset
		page.Publications = slices.DeleteFunc(page.Publications, func(p broker.Publication) bool {
			return c.excluded(&p.Target)
		})
		if len(page.Publications) > 0 || !page.More {
			return page, nil
		}
		if q.Backwards {
			q.Before = last
		} else {
			q.After = last
		}
	}
}
