package realtime

import (
	"context"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/admission"
	"github.com/realtime-go/realtime/internal/recovery"
	"github.com/realtime-go/realtime/internal/wire"
)

// From is where a connection begins in a room that keeps history, before it goes on with what is
// live. The zero From is the present.
type From struct {
	// Last is how many of the newest messages it gets first.
	Last int
	// Since is the position behind which it gets everything. If that is not to be had, Last counts;
	// with a Last of zero it begins in front of all that is kept if Since has another epoch, and
	// else in the present.
	Since Position
}

// Joined says how a connection has come into a room.
type Joined struct {
	// New says that it was no member before.
	New bool
	// At is where it begins: what it gets next is what comes behind that. Top is the offset of the
	// newest message at that time. Both are zero if the room keeps nothing.
	At  Position
	Top uint64
	// Recovered says that it gets everything since From.Since. If it does not, Reason says why. Both
	// are zero if From.Since is.
	Recovered bool
	Reason    Reason
}

// joinOp is a join on its way.
type joinOp struct {
	room  string
	from  From
	began admission.Decision // when it was decided
	asked bool               // by the client
	id    []byte             // of the request; nil if the client wants no answer

	policy recovery.Policy
	pinned *room            // nil if it keeps nothing
	start  *broker.Position // where to begin; nil: live
	looked int              // through so many messages, to find that out
	bytes  int              // of these
	told   int              // connections of the join
	blind  bool             // who joins may not know what was sent before
	joined Joined
}

// joins puts connections into rooms and takes them out.
type joins struct{ m *Manager }

// join puts a connection into a room. It may wait for the broker of one that keeps history, until
// ctx ends. The answer for a client that has asked for it goes out in the same critical section:
// what takes the client out again is told behind it. The announcement of a connection that is not
// live yet waits for enter.
func (js *joins) join(ctx context.Context, c *Conn, e *joinOp) error {
	if err := js.prepare(ctx, e); err != nil {
		return err
	}
	defer js.finish(e)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := js.joinLocked(c, e); err != nil {
		return err
	}
	if e.asked {
		c.rooms.find(e.room).asked = true
		if c.rooms.apiRoom == e.room { // it is not the REST interface's any more
			c.rooms.apiRoom = ""
		}
	}
	return nil
}

// recover has a member get what is behind the position that its client is at. It never makes a
// membership: without one it returns errNoMember.
func (js *joins) recover(ctx context.Context, c *Conn, e *joinOp) error {
	if err := js.prepare(ctx, e); err != nil {
		return err
	}
	defer js.finish(e)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session.Ended() {
		return ErrClosed
	}
	m := c.rooms.find(e.room)
	if m == nil {
		return errNoMember
	}
	js.joinAgain(m, e)
	return nil
}

// prepare finds out where the connection begins. If it returns no error, finish has to be called.
func (js *joins) prepare(ctx context.Context, e *joinOp) (err error) {
	if err := checkRoom(e.room); err != nil {
		return err
	}
	if e.policy = js.m.opts.policy(e.room); !e.policy.Keeps() {
		if e.from.Since != (Position{}) {
			e.joined.Reason = ReasonUnknown
		}
		return nil
	}
	if e.pinned, err = js.m.rooms.hold(ctx, e.room, e.policy); err != nil {
		return err
	}
	if err = js.locate(ctx, e); err != nil {
		js.finish(e)
	}
	return err
}

func (js *joins) finish(e *joinOp) {
	if e.pinned != nil {
		js.m.rooms.release(e.pinned)
	}
}

// maxLookBack is how many bytes of messages a join begins behind at most: they are all read to find
// out where the first of them is.
const maxLookBack = 16 << 20

// locate turns what is asked for into a position.
func (js *joins) locate(ctx context.Context, e *joinOp) error {
	stream := broker.RoomStream(e.room)
	if e.blind {
		e.joined.Reason = ReasonUnknown
		return nil
	}
	if since := broker.Position(e.from.Since); since != (broker.Position{}) {
		page, err := js.m.broker.Read(ctx, stream, broker.Query{After: since.Offset, Limit: 1})
		if err != nil {
			return err
		}
		if e.joined.Reason = page.GapAfter(since); e.joined.Reason == "" {
			e.joined.Recovered, e.start = true, &since
			return nil
		}
		if e.joined.Reason == ReasonEpoch && e.from.Last <= 0 {
			bottom := page.Bottom()
			e.start = &bottom
		}
	}
	if e.from.Last <= 0 {
		return nil
	}
	q := broker.Query{Backwards: true, Limit: e.from.Last, Bytes: maxLookBack}
	page, err := js.m.broker.Read(ctx, stream, q)
	e.looked, e.bytes = len(page.Publications), page.Size()
	if n := e.looked; err == nil && n > 0 {
		e.start = &broker.Position{Epoch: page.Top.Epoch, Offset: page.Publications[n-1].Prev}
	}
	return err
}

// joinLocked is join of a room that is prepared, while c.mu is held.
func (js *joins) joinLocked(c *Conn, e *joinOp) error {
	if c.phase == gone || c.session.Ended() {
		return ErrClosed
	}
	if m := c.rooms.find(e.room); m != nil {
		js.joinAgain(m, e)
		return nil
	}
	if js.m.opts.Limits.RoomsPerConn > 0 && c.rooms.n >= js.m.opts.Limits.RoomsPerConn {
		return ErrTooManyRooms
	}
	notice := js.m.announcer.roomNotice(wire.RoomJoined, c, e.room)
	r := js.m.rooms.enter(e.room, e.policy)
	defer js.m.rooms.leave(r) // also one that was made for somebody who is denied
	if err := js.m.revocations.Check(e.began, admission.Subject{User: c.UserID(), Room: e.room}); err != nil {
		return err
	}
	m := &membership{conn: c, room: e.room}
	c.rooms.add(m)
	r.add(m)
	e.joined.New = true
	if c.phase == live {
		e.told = r.show(m, notice)
	}
	js.begin(m, e)
	return nil
}

// joinAgain is for a member: one that says where goes back to there.
func (js *joins) joinAgain(m *membership, e *joinOp) {
	if m.sub == nil {
		js.begin(m, e)
		return
	}
	r := js.m.rooms.find(m.room)
	defer r.mu.Unlock()
	js.begin(m, e)
}

// begin lets a member begin where it is to, and answers. The room is locked, if it keeps history.
func (js *joins) begin(m *membership, e *joinOp) {
	if m.sub != nil {
		at, top := m.sub.Begin(e.start, e.asked)
		// Who goes back knows what it has: what it was given already it may not have taken.
		if e.start != nil && e.asked && (!e.joined.New || m.conn.rooms.parted) {
			js.m.fetcher.Forget(&m.conn.lagging)
		}
		e.joined.At, e.joined.Top = Position(at), top
	} else if e.joined.Recovered { // the room came into being when it kept nothing
		e.joined.Recovered, e.joined.Reason = false, ReasonUnknown
	}
	if e.asked {
		if e.id != nil {
			m.conn.answer(wire.Reply(e.id, e.wire().Content(), nil))
		}
	} else if e.joined.New && m.conn.proto == wire.ProtoV1 {
		// It has not asked, but this must not end it either: it may be in many rooms.
		m.conn.answer(e.wire().Frame(e.room))
	}
	if m.sub != nil {
		m.sub.Fetch()
	}
}

// beginTransferred tells a client that it has a place in a room from another connection, and where it begins
// there. One that has asked for the room says by itself where it is. The room is locked.
func (js *joins) beginTransferred(m *membership, r *room) {
	if !m.absent && !m.asked {
		js.begin(m, &joinOp{room: m.room, policy: r.policy, joined: Joined{New: true}})
	}
}

// apiJoin is the join of the REST interface, where a plain connection has one room: it
// leaves the room that the last apiJoin put it into and joins the new one, as one step.
func (js *joins) apiJoin(ctx context.Context, c *Conn, name string, began admission.Decision) error {
	e := &joinOp{room: name, began: began}
	if err := js.prepare(ctx, e); err != nil {
		return err
	}
	defer js.finish(e)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == gone || c.session.Ended() {
		return ErrClosed
	}
	if c.rooms.apiRoom == name {
		return nil
	}
	if err := js.m.revocations.Check(began, admission.Subject{User: c.UserID(), Room: name}); err != nil {
		return err // and it stays where it is
	}
	if m := c.rooms.find(c.rooms.apiRoom); m != nil {
		js.takeOut(c, m)
	}
	err := js.joinLocked(c, e)
	if e.joined.New {
		c.rooms.apiRoom = name
	}
	return err
}

// apiLeave is the leave of the REST interface. Without a REST room it does nothing.
func (js *joins) apiLeave(c *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.rooms.find(c.rooms.apiRoom); m != nil {
		js.takeOut(c, m)
	}
}

// wire returns what the client is told.
func (e *joinOp) wire() *wire.Joined {
	return &wire.Joined{
		At: broker.Position(e.joined.At), Top: e.joined.Top, Lossy: e.policy.Lossy,
		Since: e.from.Since != (Position{}), Recovered: e.joined.Recovered, Reason: e.joined.Reason,
	}
}

// leave takes a connection out of a room, and reports false if it was not there. A client that has
// asked for it is answered in the same critical section: what puts it in again is told behind that.
// One that has not, where answered is nil, is told. It returns how many connections were told of
// the one that left.
func (js *joins) leave(c *Conn, name string, answered func()) (left bool, told int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.rooms.find(name)
	switch {
	case m != nil && answered == nil:
		js.takeOut(c, m)
	case m != nil:
		told = js.remove(c, m)
	}
	if answered != nil {
		answered()
	}
	return m != nil, told
}

// takeOut ends a membership, and tells a client of realtime.v1. c.mu is held, so that a join that
// follows is answered behind it.
func (js *joins) takeOut(c *Conn, m *membership) {
	js.remove(c, m)
	if c.proto == wire.ProtoV1 {
		c.tell(wire.Left(m.room))
	}
}

// remove ends a membership, and returns how many connections were told. c.mu is held.
func (js *joins) remove(c *Conn, m *membership) (told int) {
	notice := js.m.announcer.roomNotice(wire.RoomLeft, c, m.room)
	c.rooms.remove(m)
	r := js.m.rooms.find(m.room)
	told = r.remove(m, notice)
	js.m.rooms.leave(r)
	return told
}
