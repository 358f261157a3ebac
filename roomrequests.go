package realtime

import (
	"errors"
	"log/slog"
	"slices"
	"strconv"

	"github.com/realtime-go/realtime/internal/sendqueue"
)

// errEpoch says that a position is one of a stream that is no more.
var errEpoch = errors.New("realtime: the room has another epoch")

// joinRequest makes the client a member, at the position that it names.
func (d *requester) joinRequest(c *Conn, r *request) error {
	if err := checkRoom(r.room); err != nil {
		return err
	}
	began := d.denials.begin()
	defer d.denials.end()
	if !d.mayJoin(c, r.room) {
		return ErrForbidden
	}
	e := d.newEntry(c, r)
	if e.blind && r.history > 0 {
		return ErrForbidden
	}
	e.began, e.from.Last = began, r.history
	err := d.rooms.join(c.ctx, c, e)
	c.bill.receivers.Add(int64(e.looked + e.told)) // it costs as much as a message to so many
	c.charge(e.bytes)
	r.answered = err == nil
	return err
}

// recoverRequest has a member go back to the position that it names, also in a room that it could
// not join by itself.
func (d *requester) recoverRequest(c *Conn, r *request) error {
	if err := checkRoom(r.room); err != nil {
		return err
	}
	if !c.isIn(r.room) { // nobody is asked what it may do there
		return errNoMember
	}
	err := d.rooms.goBack(c.ctx, c, d.newEntry(c, r))
	r.answered = err == nil
	return err
}

// newEntry is a client's way into a room, behind the position that it names.
func (d *requester) newEntry(c *Conn, r *request) *entry {
	e := &entry{room: r.room, asked: true, from: From{Since: r.since}}
	past := r.history > 0 || r.since != (Position{})
	e.blind = past && !d.allowed(c, Action{Kind: ActionHistory, Room: r.room})
	e.answer = func(e *entry) *sendqueue.Frame {
		if r.id == nil {
			return nil
		}
		return reply(r.id, joinedContent(e), nil)
	}
	return e
}

func (d *requester) leaveRequest(c *Conn, r *request) error {
	if err := checkRoom(r.room); err != nil {
		return err
	}
	if !d.allowed(c, Action{Kind: ActionLeave, Room: r.room, Conn: c.id}) {
		return ErrForbidden
	}
	r.answered = true
	_, told := d.rooms.part(c, r.room, func() {
		if r.id != nil {
			answer(c, d.tally, reply(r.id, nil, nil))
		}
	})
	c.bill.receivers.Add(int64(told))
	return nil
}

// presenceRequest answers with who is in a room. The answer takes its place among the
// announcements of the room: what is announced behind it, it does not know.
func (d *requester) presenceRequest(c *Conn, r *request) error {
	if err := checkRoom(r.room); err != nil {
		return err
	}
	if !d.allowed(c, Action{Kind: ActionMembers, Room: r.room}) {
		return ErrForbidden
	}
	if !d.announced {
		d.notes.Once(slog.LevelWarn, "presence", "", "realtime: a client asked who is in a room, "+
			"and will not hear who comes and goes: set Options.Announce to AnnounceRooms")
	}
	if r.id == nil {
		return nil
	}
	r.answered = true
	size := 0
	d.rooms.inspect(r.room, func(l *listing) { size = len(l.content) })
	if err := d.replies.Reserve(c.ctx, int64(size)); err != nil {
		return err
	}
	defer d.replies.Release(int64(size))
	d.rooms.inspect(r.room, func(l *listing) {
		c.bill.receivers.Add(int64(l.users)) // it costs as much as a message to so many
		c.charge(len(l.content))
		answer(c, d.tally, reply(r.id, l.content, nil))
	})
	return nil
}

// historyRequest answers with messages that a room has kept, in their order.
func (d *requester) historyRequest(c *Conn, r *request) error {
	if err := checkRoom(r.room); err != nil {
		return err
	}
	if !d.allowed(c, Action{Kind: ActionHistory, Room: r.room}) {
		return ErrForbidden
	}
	q := Query{After: r.after, Before: r.before, Backwards: !r.forward, Limit: r.limit}
	if q.Limit == 0 {
		q.Limit = defaultHistory
	}
	if err := d.replies.Reserve(c.ctx, defaultPageBytes); err != nil {
		return err
	}
	defer d.replies.Release(defaultPageBytes) // behind the answer, which counts itself
	page, err := d.pageFor(c, r.room, q)
	switch {
	case err != nil:
		return err
	case r.epoch != "" && r.epoch != page.Top.Epoch:
		return errEpoch
	case r.id == nil:
		return nil
	}
	if q.Backwards {
		slices.Reverse(page.Publications)
	}
	r.answered = true
	answer(c, d.tally, reply(r.id, historyContent(r.room, &page), nil))
	return nil
}

// pageFor returns the first page that has something for a client, without what is not for it.
func (d *requester) pageFor(c *Conn, room string, q Query) (page Page, err error) {
	for {
		if page, err = d.rooms.history(c.ctx, room, q); err != nil || len(page.Publications) == 0 {
			return page, err
		}
		c.bill.receivers.Add(int64(len(page.Publications))) // it costs as much as a message to so many
		c.charge(page.size())
		last := page.Publications[len(page.Publications)-1].Position.Offset
		page.Publications = slices.DeleteFunc(page.Publications, func(p Publication) bool {
			return c.leftOut(&p.Target)
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

// historyContent is the content of the answer: what a member would have got.
func historyContent(room string, page *Page) []byte {
	buf := appendString([]byte(`{"epoch":`), page.Top.Epoch)
	buf = strconv.AppendUint(append(buf, `,"top":`...), page.Top.Offset, 10)
	buf = strconv.AppendBool(append(buf, `,"more":`...), page.More)
	buf = append(buf, `,"messages":[`...)
	for i := range page.Publications {
		p := &page.Publications[i]
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = appendKept(buf, &p.Message, &spot{room: room, at: p.Position, prev: p.Prev})
	}
	return append(buf, ']', '}')
}
