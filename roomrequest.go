package realtime

import (
	"log/slog"
	"slices"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/wire"
)

// errEpoch says that a position is one of a stream that is no more.
var errEpoch = &Error{wire.CodeEpoch, "the room has another epoch"}

// joinRequest makes the client a member, at the position that it names.
func (rs *requests) joinRequest(c *Conn, r *wire.Request) error {
	if err := checkMember("room", ValidName(r.Room)); err != nil {
		return err
	}
	began := rs.m.revocations.Begin()
	defer rs.m.revocations.End()
	if !rs.mayJoin(c, r.Room) {
		return ErrForbidden
	}
	e := rs.newEntry(c, r)
	if e.blind && r.History > 0 {
		return ErrForbidden
	}
	e.began, e.from.Last = began, r.History
	err := rs.m.joins.join(c.session.Context(), c, e)
	c.session.Bill().Receivers(e.looked + e.told) // it costs as much as a message to so many
	c.session.Bill().Bytes(e.bytes)
	r.Answered = err == nil
	return err
}

// recoverRequest has a member go back to the position that it names, also in a room that it could
// not join by itself.
func (rs *requests) recoverRequest(c *Conn, r *wire.Request) error {
	if err := checkMember("room", ValidName(r.Room)); err != nil {
		return err
	}
	if !c.isIn(r.Room) { // nobody is asked what it may do there
		return errNoMember
	}
	err := rs.m.joins.recover(c.session.Context(), c, rs.newEntry(c, r))
	r.Answered = err == nil
	return err
}

// newEntry is a client's way into a room, behind the position that it names.
func (rs *requests) newEntry(c *Conn, r *wire.Request) *joinOp {
	e := &joinOp{room: r.Room, asked: true, id: r.ID, from: From{Since: Position(r.Since)}}
	past := r.History > 0 || r.Since != (broker.Position{})
	e.blind = past && !rs.commands.allowed(c, Action{Kind: ActionHistory, Room: r.Room})
	return e
}

func (rs *requests) leaveRequest(c *Conn, r *wire.Request) error {
	if err := checkMember("room", ValidName(r.Room)); err != nil {
		return err
	}
	if !rs.commands.allowed(c, Action{Kind: ActionLeave, Room: r.Room, Conn: c.id}) {
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

// presenceRequest answers with who is in a room. The answer takes its place among the
// announcements of the room: what is announced behind it, it does not know.
func (rs *requests) presenceRequest(c *Conn, r *wire.Request) error {
	if err := checkMember("room", ValidName(r.Room)); err != nil {
		return err
	}
	if !rs.commands.allowed(c, Action{Kind: ActionMembers, Room: r.Room}) {
		return ErrForbidden
	}
	if !rs.m.announcer.rooms() {
		rs.m.log.Once(slog.LevelWarn, "presence", "", "realtime: a client asked who is in a room, "+
			"and will not hear who comes and goes: set Options.Announce to AnnounceRooms")
	}
	if r.ID == nil {
		return nil
	}
	r.Answered = true
	size := 0
	rs.m.rooms.inspect(r.Room, func(l *presence) { size = len(l.content) })
	if err := rs.m.counters.Queues.Replies.Reserve(c.session.Context(), int64(size)); err != nil {
		return err
	}
	defer rs.m.counters.Queues.Replies.Release(int64(size))
	rs.m.rooms.inspect(r.Room, func(l *presence) {
		c.session.Bill().Receivers(l.users) // it costs as much as a message to so many
		c.session.Bill().Bytes(len(l.content))
		c.answer(wire.Reply(r.ID, l.content, nil))
	})
	return nil
}

// historyRequest answers with messages that a room has kept, in their order.
func (rs *requests) historyRequest(c *Conn, r *wire.Request) error {
	if err := checkMember("room", ValidName(r.Room)); err != nil {
		return err
	}
	if !rs.commands.allowed(c, Action{Kind: ActionHistory, Room: r.Room}) {
		return ErrForbidden
	}
	q := broker.Query{After: r.After, Before: r.Before, Backwards: !r.Forward, Limit: r.Limit}
	if q.Limit == 0 {
		q.Limit = defaultHistory
	}
	if err := rs.m.counters.Queues.Replies.Reserve(c.session.Context(), broker.DefaultPageBytes); err != nil {
		return err
	}
	defer rs.m.counters.Queues.Replies.Release(broker.DefaultPageBytes) // behind the answer, which counts itself
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

// pageFor returns the first page that has something for a client, without what is not for it.
func (rs *requests) pageFor(c *Conn, room string, q broker.Query) (page broker.Page, err error) {
	for {
		if page, err = rs.m.publisher.history(c.session.Context(), room, q); err != nil || len(page.Publications) == 0 {
			return page, err
		}
		c.session.Bill().Receivers(len(page.Publications)) // it costs as much as a message to so many
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

// defaultHistory is how many messages a client gets that does not say how many.
const defaultHistory = 50
