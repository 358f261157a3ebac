package realtime

import (
	"context"
	"errors"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/admission"
	"github.com/realtime-go/realtime/internal/wire"
)

// From says where a connection begins in a room that keeps history. It gets the kept messages from
// there, and then the new ones. The zero From begins after the newest message.
type From struct {
	// Last is how many of the newest messages the connection gets first, up to 16 MiB of them. It
	// does not apply if Since does.
	Last int
	// Since is the position after which the connection gets all messages. If some of them are not
	// kept any more, Last applies instead. If Last is then zero, the connection begins before all
	// kept messages if Since has another epoch, and otherwise after the newest message.
	Since Position
}

// Joined is the result of a join.
type Joined struct {
	// New reports whether the connection was not a member before.
	New bool
	// At is where the connection begins: it gets the messages after this position. Top is the
	// offset of the newest message at the time of the join. Both are zero if the room keeps
	// nothing.
	At  Position
	Top uint64
	// Recovered reports whether the connection gets all messages after From.Since. If it does not,
	// Reason says why. Both are zero if From.Since is zero.
	Recovered bool
	Reason    Reason
}

// joinOp is one join.
type joinOp struct {
	room     string
	from     From
	began    admission.Decision // when its authorisation began; zero if the application joins
	byClient bool               // by the client
	id       []byte             // of the request; nil if the client wants no answer
	asked    *wire.RoomState    // what the client asks and says about the state of the room, or nil

	policy            roomPolicy
	held              *room            // nil if nothing has to be waited for
	start             *broker.Position // where to begin; nil: after the newest message
	messagesRead      int              // messages that were read to find start
	bytesRead         int              // size of these messages
	told              int              // connections that are told of the join
	owed              int              // entries and values, which the client gets
	owedBytes         int              // size of these
	mayNotReadHistory bool             // the client may not read what was sent before
	joined            Joined
}

// joins puts connections into rooms and takes them out.
type joins struct{ m *Manager }

// join puts a connection into a room. If the room keeps history, join waits for the broker until
// ctx ends. A client that asked for the join is answered in the same critical section, so the
// answer comes before any report that the client was taken out again. For a connection that is not
// live yet, lists.showRooms sends the notice.
func (js *joins) join(ctx context.Context, c *Conn, e *joinOp) error {
	if err := js.prepare(ctx, e); err != nil {
		return err
	}
	defer js.finish(e)
	defer js.learn(e)
	u := js.lockConn(c)
	defer js.unlockConn(c, u)
	if err := js.joinLocked(c, u, e); err != nil {
		return err
	}
	if e.byClient {
		c.rooms.find(e.room).asked = true
		if c.rooms.apiRoom == e.room { // the REST handler must not end a join of the client itself
			c.rooms.apiRoom = ""
		}
	}
	return nil
}

// lockConn locks a connection that joins a room. If it has a presence key, it may continue a
// membership of a detached session of its user: then lockConn locks the user first, and returns it.
func (js *joins) lockConn(c *Conn) (u *user) {
	if c.presenceKey != "" && c.UserID() != "" {
		u = js.m.users.lockNew(c.UserID())
	}
	c.mu.Lock()
	return u
}

// unlockConn undoes lockConn.
func (js *joins) unlockConn(c *Conn, u *user) {
	c.mu.Unlock()
	if u != nil {
		js.m.users.unlock(u)
	}
}

// recover gives a member the messages after the position that its client names. It never adds a
// membership: if the connection is not in the room, it returns errNoMember.
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
	return js.joinAgain(m, e)
}

// prepare finds where the connection begins. If it returns nil, the caller must call finish.
func (js *joins) prepare(ctx context.Context, e *joinOp) (err error) {
	if err := checkRoom(e.room); err != nil {
		return err
	}
	e.policy = js.m.opts.policy(e.room)
	keeps := e.policy.Keeps()
	if !keeps && e.from.Since != (Position{}) {
		e.joined.Reason = ReasonUnknown
	}
	if !keeps && js.m.node.Alone() {
		return nil
	}
	if e.held, err = js.m.rooms.hold(ctx, e.room, e.policy); err != nil || !keeps {
		return err
	}
	if err = js.locate(ctx, e); err != nil {
		js.finish(e)
	}
	return err
}

// learn asks the other nodes for their members and the values of a room, once after it has begun here.
func (js *joins) learn(e *joinOp) {
	if js.m.node.Alone() {
		return
	}
	r := e.held
	r.mu.Lock()
	defer r.mu.Unlock()
	if o := r.opening; o != nil && !o.asked && len(r.members) > 0 {
		o.asked = true
		timer := time.AfterFunc(maxOpening, func() { r.opened(o) })
		js.m.broker.Go(func() {
			js.m.spread.begin(r.name)
			timer.Stop()
			r.opened(o)
		})
	}
}

func (js *joins) finish(e *joinOp) {
	if e.held != nil {
		js.m.rooms.release(e.held)
	}
}

// maxLookBack bounds, in bytes, the newest messages that a join can ask for: they are all read to
// find the position of the first one.
const maxLookBack = 16 << 20

// locate sets e.start to the position that e.from describes.
func (js *joins) locate(ctx context.Context, e *joinOp) error {
	stream := broker.RoomStream(e.room)
	if e.mayNotReadHistory {
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
	e.messagesRead, e.bytesRead = len(page.Publications), page.Size()
	if n := e.messagesRead; err == nil && n > 0 {
		e.start = &broker.Position{Epoch: page.Top.Epoch, Offset: page.Publications[n-1].Prev}
	}
	return err
}

// joinLocked makes the connection a member, after prepare. c is locked by lockConn, which returned
// u.
func (js *joins) joinLocked(c *Conn, u *user, e *joinOp) error {
	if c.phase == gone || c.session.Ended() {
		return ErrClosed
	}
	if m := c.rooms.find(e.room); m != nil {
		return js.joinAgain(m, e)
	}
	if js.atLimit(c) {
		return ErrTooManyRooms
	}
	was := u.predecessor(c, e.room)
	defer c.continued(was)
	r := js.m.rooms.lockNew(e.room, e.policy)
	defer js.m.rooms.unlock(r) // removes a room that was made for a user who is denied
	subject := admission.Subject{User: c.UserID(), Room: e.room}
	if err := js.m.revocations.Check(e.began, subject); err != nil {
		return err
	}
	if err := e.checkState(r); err != nil {
		return err
	}
	m := &membership{conn: c, room: e.room}
	if e.asked != nil && e.asked.Own != nil {
		v := m.see()
		v.own, v.says = ownState(e.asked), true
	}
	c.rooms.add(m)
	r.add(m)
	e.joined.New = true
	if c.phase == live {
		e.told = r.showAs(m, was)
	}
	js.begin(m, r, e)
	return nil
}

// show makes a connection that is live now visible in a room that it joined before. Its user u is
// locked, and so is the connection. u is nil if it is anonymous.
func (js *joins) show(m *membership, u *user) {
	was := u.predecessor(m.conn, m.room)
	defer m.conn.continued(was)
	r := js.m.rooms.lock(m.room)
	defer r.mu.Unlock()
	if !m.visible {
		r.showAs(m, was)
	}
}

// continued undoes predecessor, which returned was. The connection may have its info now: then it
// shows that in all its rooms. c.mu is held, and no room is locked.
func (c *Conn) continued(was *membership) {
	if was != nil {
		was.conn.mu.Unlock()
		c.setInfo(c.identity.Info)
	}
}

// atLimit reports whether a connection is in as many rooms as it may be. c.mu is held.
func (js *joins) atLimit(c *Conn) bool {
	limit := js.m.opts.Limits.RoomsPerConn
	return limit > 0 && int(c.rooms.n) >= limit
}

// joinAgain moves a member to the position that it names, if it names one.
func (js *joins) joinAgain(m *membership, e *joinOp) error {
	r := js.m.rooms.lock(m.room)
	defer r.mu.Unlock()
	if err := e.checkState(r); err != nil {
		return err
	}
	if e.asked != nil && e.asked.Own != nil {
		if err := m.setState(ownState(e.asked)); errors.Is(err, ErrFull) {
			m.refuseState()
		} else if err != nil {
			return err
		}
	}
	js.begin(m, r, e)
	return nil
}

// checkState returns an error if the room does not show the state that the client sets. The room is
// locked.
func (e *joinOp) checkState(r *room) error {
	if e.asked != nil && e.asked.Own != nil && r.policy.show != ShowMembers {
		return errNotShown
	}
	return nil
}

// begin lets a member begin at its position, answers the client, and gives it what is current in
// the room. The lock of the room is held.
func (js *joins) begin(m *membership, r *room, e *joinOp) {
	if m.sub != nil {
		at, top := m.sub.Begin(e.start, e.byClient)
		// The client names the position up to which it has everything. It may not have processed a
		// union that it was given after that.
		if e.start != nil && e.byClient && (!e.joined.New || m.conn.rooms.parted) {
			js.m.fetcher.Forget(&m.conn.lagging)
		}
		e.joined.At, e.joined.Top = Position(at), top
	} else if e.joined.Recovered { // the room was made while its options kept nothing
		e.joined.Recovered, e.joined.Reason = false, ReasonUnknown
	}
	if e.byClient {
		if e.id != nil {
			m.conn.answer(wire.Reply(e.id, e.wire(m, r).Content(), nil))
		}
	} else if e.joined.New && m.conn.proto == wire.ProtoV1 {
		// The client did not ask, but this counts as an answer: a full queue must not end the
		// connection, which the application may put into many rooms at once.
		m.conn.answer(e.wire(m, r).Frame(e.room))
	}
	if !r.awaitState(m, e.asked) {
		e.owed, e.owedBytes = r.beginState(m, e.asked)
	}
	if m.sub != nil {
		m.sub.Fetch()
	}
}

// beginTransferred tells a client that it is in a room because it resumed a session, and where it
// begins there. If the client had asked for the room, it names its position itself. The lock of the
// room is held.
func (js *joins) beginTransferred(m *membership, r *room) {
	if !m.detached && !m.asked {
		js.begin(m, r, &joinOp{room: m.room, policy: r.policy, joined: Joined{New: true}})
	}
}

// apiJoin is the join of the REST interface. It leaves the room of the apiJoin before it and enters
// the new one under one lock. Rooms that the connection joined in other ways stay.
func (js *joins) apiJoin(
	ctx context.Context, c *Conn, name string, began admission.Decision,
) error {
	e := &joinOp{room: name, began: began}
	if err := js.prepare(ctx, e); err != nil {
		return err
	}
	defer js.finish(e)
	defer js.learn(e)
	u := js.lockConn(c)
	defer js.unlockConn(c, u)
	if c.phase == gone || c.session.Ended() {
		return ErrClosed
	}
	if c.rooms.apiRoom == name {
		return nil
	}
	subject := admission.Subject{User: c.UserID(), Room: name}
	if err := js.m.revocations.Check(began, subject); err != nil {
		return err // before it leaves its room
	}
	if m := c.rooms.find(c.rooms.apiRoom); m != nil {
		js.takeOut(c, m)
	}
	err := js.joinLocked(c, u, e)
	if e.joined.New {
		c.rooms.apiRoom = name
	}
	return err
}

// apiLeave takes a connection out of the room of the last apiJoin, if it is still there.
func (js *joins) apiLeave(c *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.rooms.find(c.rooms.apiRoom); m != nil {
		js.takeOut(c, m)
	}
}

// wire returns the answer for the client.
func (e *joinOp) wire(m *membership, r *room) *wire.Joined {
	j := &wire.Joined{
		At: broker.Position(e.joined.At), Top: e.joined.Top, Lossy: e.policy.Lossy,
		Since: e.from.Since != (Position{}), Recovered: e.joined.Recovered, Reason: e.joined.Reason,
	}
	if e.byClient && m.view != nil && m.view.entry != nil {
		j.Key = m.view.entry.Key
	}
	if e.asked != nil && e.asked.Watch {
		j.Show = r.policy.show.wire()
	}
	return j
}

// leave takes a connection out of a room, and reports whether it was in the room. If the client
// asked for that, leave calls answer in the same critical section, so the answer comes before any
// report that the client was put in again, and told is how many connections are told of it.
// If answer is nil, leave reports to the client that it was taken out.
func (js *joins) leave(c *Conn, name string, answer func()) (left bool, told int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.rooms.find(name)
	switch {
	case m != nil && answer == nil:
		js.takeOut(c, m)
	case m != nil:
		told = js.remove(c, m)
	}
	if answer != nil {
		answer()
	}
	return m != nil, told
}

// takeOut ends a membership, and tells a client of realtime.v1. c.mu is held, so the answer to a
// later join comes after that.
func (js *joins) takeOut(c *Conn, m *membership) {
	js.remove(c, m)
	if c.proto == wire.ProtoV1 {
		c.tell(wire.Left(m.room))
	}
}

// remove ends a membership, and returns how many connections are told of it. c.mu is held.
func (js *joins) remove(c *Conn, m *membership) (told int) {
	c.rooms.remove(m)
	r := js.m.rooms.lock(m.room)
	told = r.remove(m)
	js.m.rooms.unlock(r)
	return told
}
