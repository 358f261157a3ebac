package realtime

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/realtime-go/realtime/internal/state"
	"github.com/realtime-go/realtime/internal/wire"
)

// Member is one connection in a room.
type Member struct {
	Conn string // the id of the connection
	User string // empty for an anonymous connection
	// Key identifies the member for the clients that watch the room. It stays the same when a
	// session is resumed, and when a page is reloaded. Empty if the room does not show its members.
	Key string
	// Info is what the application says about the member, see [Conn.SetInfo], and State what its
	// client says. Both are JSON. They are nil if there is nothing, and if the room does not show
	// its members.
	Info, State json.RawMessage
	// Away reports whether the connection is lost: the member has a detached session, see
	// Timeouts.Resume. Clients are told after three seconds.
	Away bool
}

// Members returns the members of the room, sorted by user and then by key. It includes detached
// sessions, see Timeouts.Resume. With a broker that connects several processes, it waits like
// [Room.Users]; otherwise it does not block. The caller must not change Info and State.
func (r Room) Members(ctx context.Context) ([]Member, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	members := r.m.rooms.membersOf(r.name)
	answers, err := r.m.node.AskRoom(ctx, r.name, askMembers, &ask{Room: r.name})
	for i := range answers {
		var more []Member
		err = errors.Join(err, json.Unmarshal(answers[i].Body, &more))
		for _, m := range more {
			m.Info, m.State = wire.OrNil(m.Info), wire.OrNil(m.State)
			members = append(members, m)
		}
	}
	slices.SortFunc(members, func(a, b Member) int {
		return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.Key, b.Key),
			cmp.Compare(a.Conn, b.Conn))
	})
	return members, err
}

// membersOf returns the members of a room in this process, in no order.
func (rs *rooms) membersOf(name string) []Member {
	found := rs.lock(name)
	if found == nil {
		return []Member{}
	}
	defer found.mu.Unlock()
	return found.everyone()
}

// everyone returns the members in the roster, in no order.
func (r *room) everyone() []Member {
	members := make([]Member, 0, r.shown)
	add := func(m *membership) {
		if !m.visible {
			return
		}
		member := Member{Conn: m.conn.id, User: m.conn.UserID(), Away: m.detached}
		if m.view != nil && m.view.entry != nil {
			e := m.view.entry
			member.Key, member.Info, member.State = e.Key, e.Info, e.State
		}
		members = append(members, member)
	}
	for i := range r.members {
		add(r.members[i].membership)
	}
	for _, m := range r.detached {
		add(m)
	}
	return members
}

// maxState is the largest state and the largest info of a member, in bytes.
const maxState = 1 << 10

// SetInfo sets what the application says about the connection, such as a name, a color or a role,
// to the clients that watch its rooms, see ShowMembers. It replaces Identity.Info. info is what
// encoding/json makes of it, or a json.RawMessage; nil means nothing. It may have at most 1 KiB. It
// belongs to the session: a connection that resumes it, or that continues a membership after its
// page was reloaded, keeps the info, unless SetInfo was called for that connection too. SetInfo
// does not block.
//
// It returns ErrInvalidMessage if info cannot be encoded, ErrTooLarge, and ErrClosed if the
// connection has ended.
func (c *Conn) SetInfo(info any) error {
	encoded, err := encodeInfo(info)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == gone || c.session.Ended() {
		return ErrClosed
	}
	c.infoSet = true
	c.setInfo(encoded)
	return nil
}

// encodeInfo returns info as JSON, or nil.
func encodeInfo(info any) (json.RawMessage, error) {
	if info == nil {
		return nil, nil
	}
	content, err := wire.ContentOf(info)
	if err != nil {
		return nil, fmt.Errorf("%w: info: %w", ErrInvalidMessage, err)
	}
	if content.Binary != nil {
		return nil, fmt.Errorf("%w: info is bytes", ErrInvalidMessage)
	}
	return checkInfo(bytes.Clone(content.JSON))
}

// checkInfo returns an error that matches ErrTooLarge or ErrInvalidMessage if info is not valid.
// Otherwise it returns info, or nil for the JSON null.
func checkInfo(info json.RawMessage) (json.RawMessage, error) {
	switch {
	case len(info) > maxState:
		return nil, fmt.Errorf("%w: info of %d bytes, limit %d", ErrTooLarge, len(info), maxState)
	case wire.IsNull(info):
		return nil, nil
	}
	return info, checkJSON(info)
}

// withReader calls do with the reader of the connection in a room, if it has one there, and the
// lock of the room held.
func (c *Conn) withReader(room string, do func(reader *state.Reader)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.rooms.find(room)
	if m == nil {
		return
	}
	r := c.m.rooms.lock(room)
	defer r.mu.Unlock()
	if m.view != nil && m.view.reader != nil {
		do(m.view.reader)
	}
}

// watches reports whether the client of the connection watches a room.
func (c *Conn) watches(room string) (yes bool) {
	c.withReader(room, func(reader *state.Reader) { yes = reader.Watches() })
	return yes
}

// stopWatching ends the watching of a room in which the client may not watch the members any more.
func (c *Conn) stopWatching(room string) {
	c.withReader(room, func(reader *state.Reader) {
		c.answer(reader.Unwatch())
		c.answer(wire.Refusal("", room, (*wire.Error)(errorReply(ErrForbidden))))
	})
}

// setInfo sets the info in all rooms. c.mu is held.
func (c *Conn) setInfo(info json.RawMessage) {
	c.identity.Info = info
	c.eachEntry(func(e *state.Entry) { e.SetInfo(info) })
}

// eachEntry calls do with the entries of the connection, and the lock of their room held. c.mu is
// held.
func (c *Conn) eachEntry(do func(e *state.Entry)) {
	for m := c.rooms.newest; m != nil; m = m.older {
		r := c.m.rooms.lock(m.room)
		if m.view != nil && m.view.entry != nil {
			do(m.view.entry)
		}
		r.mu.Unlock()
	}
}

// view is what a member has of the state of its room. The room guards it.
type view struct {
	entry  *state.Entry  // what others see of the member; nil if the room does not show it
	reader *state.Reader // nil if the member is given nothing
	own    []byte        // its state, before it has an entry; nil: none
	says   bool          // its client has said what its state is
}

// see returns the view of a member. It makes one if there is none.
func (m *membership) see() *view {
	if m.view == nil {
		m.view = &view{}
	}
	return m.view
}

// useState returns the state of the room. It makes one if there is none.
func (r *room) useState() *state.Room {
	if r.state == nil {
		show := state.Show(r.policy.show - ShowNothing)
		r.state = state.NewRoom(&r.m.stateConfig, &r.mu, r.name, show)
		if r.part != nil {
			r.state.Changed = r.changedPart
		}
		r.countState()
	}
	return r.state
}

// countState tells the state of the room how many members there are, and returns how many watchers
// it tells.
func (r *room) countState() (told int) {
	if r.state == nil {
		return 0
	}
	n := r.count()
	r.state.SetCount(n.Users, n.Conns)
	return r.state.Watchers()
}

// enter gives a member that is now in the roster an entry, if the room shows its members. It
// returns how many watchers are told. The lock of the member's connection is held.
func (r *room) enter(m *membership) (told int) {
	r.changes++
	r.changedPart("")
	told = r.countState()
	if r.policy.show != ShowMembers {
		return told
	}
	v := m.see()
	v.entry = r.useState().AddEntry(
		m.conn.UserID(), m.conn.presenceKey, m.conn.identity.Info, v.own)
	v.entry.Owner = m
	if len(v.own) > 0 && v.entry.State == nil {
		m.refuseState()
	}
	v.own, v.says = nil, false
	return told
}

// refuseState tells the client of a member that its state is not kept. Its join does not fail
// because of that: it would lose its place in the room.
func (m *membership) refuseState() {
	if m.conn.session.MayRefuse() {
		m.conn.answer(wire.Refusal("", m.room, (*wire.Error)(errorReply(ErrFull))))
	}
}

// exit removes the entry of a member that is not in the roster any more. It returns how many
// watchers are told.
func (r *room) exit(m *membership) (told int) {
	r.changes++
	r.changedPart("")
	told = r.countState()
	if v := m.view; v != nil && v.entry != nil {
		key := v.entry.Key
		v.entry.Remove()
		if v.entry = nil; r.part != nil { // another node may have it now
			if best, at := r.part.Best(key); best != nil {
				partView{r}.Show(key, best, at)
			}
		}
	}
	return told
}

// inherit gives a member the entry of old, whose place it has taken. The lock of its connection is
// held.
func (m *membership) inherit(old *membership) {
	if old.view == nil || old.view.entry == nil {
		return
	}
	v := m.see()
	v.entry, old.view.entry = old.view.entry, nil
	v.entry.Owner = m
	if !m.detached { // or it stays as it is
		v.entry.SetAway(false)
	}
	if c := m.conn; !c.infoSet && (old.conn.infoSet || c.identity.Info == nil) {
		c.identity.Info, c.infoSet = v.entry.Info, old.conn.infoSet
	}
	v.entry.SetInfo(m.conn.identity.Info)
	if v.says {
		if v.entry.SetState(v.own) != nil {
			m.refuseState()
		}
		v.own, v.says = nil, false
	}
}

// stopReading ends the giving of state to a member.
func (m *membership) stopReading() {
	if v := m.view; v != nil && v.reader != nil {
		v.reader.Leave()
		v.reader = nil
	}
}

// read returns the reader of a member. It makes one if there is none. The room has a state.
func (r *room) read(m *membership) *state.Reader {
	v := m.see()
	if v.reader == nil {
		v.reader = r.state.Add(m.conn.pace())
	}
	return v.reader
}

// beginState gives a member what is current in the room, after its join was answered. It returns
// how many entries and values, and how many bytes of them, the client is going to get. The lock of
// the room is held.
func (r *room) beginState(m *membership, asked *wire.RoomState) (n, size int) {
	if asked == nil {
		asked = &wire.RoomState{}
	}
	watch := asked.Watch && r.policy.show != ShowNothing
	if watch || asked.HasValues {
		r.useState()
	}
	if !watch && !asked.HasValues && (r.state == nil || !r.state.HasValues()) {
		return 0, 0
	}
	reader := r.read(m)
	if watch {
		reader.Watch(asked.Presence)
	}
	if asked.HasValues {
		reader.KnowsValues(asked.Values)
	}
	n, size = reader.Owed()
	reader.Begin()
	return n, size
}

// errNotShown is returned to a client that sets its state in a room that does not show its members.
var errNotShown = errors.New("realtime: the room does not show its members")

// ownState returns the state that a request sets, or nil. It does not refer to the request.
func ownState(asked *wire.RoomState) []byte {
	if asked == nil || wire.IsNull(asked.Own) {
		return nil
	}
	return bytes.Clone(asked.Own)
}

// setState sets what the client says about itself. The room is locked.
func (m *membership) setState(own []byte) error {
	if m.view == nil || m.view.entry == nil {
		return errNotShown
	}
	if m.view.entry.SetState(own) != nil {
		return ErrFull
	}
	return nil
}

// wire returns the name of what is shown in the protocol.
func (s Show) wire() string {
	return [...]string{"", wire.ShowNothing, wire.ShowCount, wire.ShowMembers}[s]
}

// sessionAway tells the watchers that a connection was lost and is not back yet.
func (m *Manager) sessionAway(c *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == detachedPhase {
		c.eachEntry(func(e *state.Entry) { e.SetAway(true) })
	}
}

// memberLists are the answers to clients that ask for the presence of a room. The room guards it.
type memberLists struct {
	last   *memberList
	making chan struct{} // closed when the list in progress is done; nil if there is none
}

// memberList is the answer to a client that asks for the presence of a room.
type memberList struct {
	version uint64 // of the room
	entries int
	content []byte
}

// maxTries is how many times a list is made without the lock of the room. If the members change
// each time, the list is then made with the lock held.
const maxTries = 3

// version changes with each change of what the room shows.
func (r *room) version() uint64 {
	if r.state != nil && r.policy.show == ShowMembers {
		return r.state.Version()
	}
	return r.changes
}

// newList returns a function that makes the list. It is called without the lock.
func (r *room) newList() func() *memberList {
	list, n, show := &memberList{version: r.version()}, r.count(), wire.ShowCount
	var entries []wire.Entry
	if r.policy.show == ShowMembers {
		show, entries = wire.ShowMembers, []wire.Entry{}
		if r.state != nil {
			entries = r.state.Entries()
		}
		if entries == nil { // too many
			show = wire.ShowCount
		}
	}
	return func() *memberList {
		slices.SortFunc(entries, func(a, b wire.Entry) int {
			return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.Key, b.Key))
		})
		list.entries = len(entries)
		list.content = wire.MemberList(show, n.Users, n.Conns, entries)
		return list
	}
}

// makeList makes the list, or waits until another goroutine has made it. The caller holds r.mu, and
// makeList releases it.
func (r *room) makeList() {
	if done := r.lists.making; done != nil {
		r.mu.Unlock()
		<-done
		return
	}
	done, list := make(chan struct{}), r.newList()
	r.lists.making = done
	r.mu.Unlock()
	made := list()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lists.making, r.lists.last = nil, made
	close(done)
}

// inspect calls see with the members of a room. If the room exists, its lock is held meanwhile, so
// that the members do not change. The list is made without the lock where possible, and is shared
// by all calls until the members change. absent is the list of a room that does not exist, see
// listAbsent.
func (rs *rooms) inspect(name string, absent *memberList, see func(l *memberList)) {
	for tries := 1; ; tries++ {
		r := rs.lock(name)
		if r == nil {
			see(absent)
			return
		}
		if r.lists == nil {
			r.lists = &memberLists{}
		}
		current := r.lists.last != nil && r.lists.last.version == r.version()
		if !current && tries <= maxTries {
			r.makeList()
			continue
		}
		if !current { // the members change faster than a list is made
			r.lists.last = r.newList()()
		}
		see(r.lists.last)
		r.mu.Unlock()
		return
	}
}

// listAbsent returns the list of a room that has no members here: that of another node that has
// some, or an empty one. p is the policy of the room.
func (rs *rooms) listAbsent(ctx context.Context, name string, p roomPolicy) *memberList {
	list := (&room{policy: p}).newList()()
	if _, ok := rs.index.Get(name); ok {
		return list
	}
	answers, _ := rs.m.node.AskRoom(ctx, name, askList, &ask{Room: name}) // or it is empty
	for i := range answers {
		var found answeredList
		if json.Unmarshal(answers[i].Body, &found) == nil && found.Entries >= list.entries &&
			len(found.Content) > 0 && found.Content[0] == '{' {
			list.entries, list.content = found.Entries, found.Content
		}
	}
	return list
}

// answeredList is a memberList for another node.
type answeredList struct {
	Entries int             `json:"entries"`
	Content json.RawMessage `json:"content"`
}

// answerList returns the list of a room that has members here.
func (rs *rooms) answerList(name string) (any, error) {
	if _, ok := rs.index.Get(name); !ok {
		return nil, ErrNotFound
	}
	var answer answeredList
	absent := &memberList{content: []byte("{}")}
	rs.inspect(name, absent, func(l *memberList) { answer = answeredList{l.entries, l.content} })
	return answer, nil
}
