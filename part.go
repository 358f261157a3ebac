package realtime

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/realtime-go/realtime/internal/cluster"
	"github.com/realtime-go/realtime/internal/parts"
	"github.com/realtime-go/realtime/internal/state"
	"github.com/realtime-go/realtime/internal/wire"
)

const (
	// partTick is how long changes of the own part of a room are collected before the other nodes are
	// told.
	partTick = 50 * time.Millisecond
	// maxPartRooms is about how many rooms one question asks, and maxPartMembers how many members an
	// answer has before it leaves the other rooms to the next question.
	maxPartRooms   = 500
	maxPartMembers = 2000
	// maxOut is how many messages may wait to be sent. Meanwhile changes merge.
	maxOut = 64
	// askAgain is when all nodes are asked again for what they have in a room that has begun: one
	// that could not be reached for a moment is not missed.
	askAgain = 5 * time.Second
	// maxOpening is how long members of a room that has begun wait for what the other nodes have.
	maxOpening = 500 * time.Millisecond
	// contestTime is how long two nodes may show a member of one user with one key: longer than the
	// lease of a node.
	contestTime = 8 * time.Second
	// minLeft is how long the members of a lost node must still be able to come back: those that are
	// about to be forgotten are not passed on.
	minLeft = time.Second
)

// spreader tells the other nodes what changes in this node's part of each room that shows something,
// and takes what they tell. Locks are taken in the order room, spreader.
type spreader struct {
	m     *Manager
	clock *parts.Clock

	mu      sync.Mutex
	dirty   map[string]struct{} // rooms
	timer   *time.Timer         // nil while no room is dirty
	out     []outPart           // in their order
	sending bool
	stale   map[cluster.ID]map[string]struct{} // rooms of which a node must be asked
	asking  map[cluster.ID]bool                // a question is under way
	sent    *sync.Cond                         // on mu: out is shorter, or closed is set
	closed  bool
	fresh   map[string]freshRoom // rooms of which all nodes must be asked

	unsure atomic.Bool // nodes have not said who is denied
}

// outPart is what the other nodes are to be told of a room.
type outPart struct {
	room string
	data []byte
}

// freshRoom is a room of which all nodes must be asked.
type freshRoom struct {
	due   time.Time
	again bool // once more
}

func newSpreader(m *Manager) *spreader {
	s := &spreader{
		m: m, clock: parts.NewClock(), dirty: map[string]struct{}{},
		stale: map[cluster.ID]map[string]struct{}{}, asking: map[cluster.ID]bool{},
		fresh: map[string]freshRoom{},
	}
	s.sent = sync.NewCond(&s.mu)
	return s
}

// partView is a room as package parts sees it.
type partView struct{ r *room }

// Show implements parts.View. If this node has a member with the key, too, one of the two gives way:
// a client that has gone to the other node, or, of two that were given the key at the same time, that
// of the smaller node.
func (v partView) Show(key string, m *parts.Member, at cluster.ID) {
	r := v.r
	if m == nil {
		r.useState().ShowForeign(key, nil, false)
		return
	}
	if own := r.useState().Own(key); own != nil {
		v.giveWay(own, m, at)
	}
	e := wire.Entry{User: m.User, Info: m.Info, State: m.State, Away: m.Away}
	r.state.ShowForeign(key, &e, m.Lost)
}

func (v partView) giveWay(own *state.Entry, other *parts.Member, at cluster.ID) {
	r, m := v.r, own.Owner.(*membership)
	same := m.conn.UserID() == other.User && other.User != ""
	switch {
	case same && other.Lost: // its client has come here, and that node gives it up
	case same && m.detached:
		r.m.broker.Go(func() { r.m.joins.leave(m.conn, r.name, nil) })
	case slices.Compare(r.m.node.ID[:], at[:]) > 0:
	case !same:
		r.rekey(own)
	case !own.Contested: // that node may be about to notice that the client is gone, or be dead
		own.Contested = true
		r.contest(own)
	}
}

// contest gives a member another key if a member of the same user at another node still has its key
// after some time: they are two pages.
func (r *room) contest(own *state.Entry) {
	time.AfterFunc(contestTime, func() { r.m.broker.Go(func() { r.endContest(own) }) })
}

func (r *room) endContest(own *state.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dead || r.part == nil || r.state == nil || r.state.Own(own.Key) != own {
		return
	}
	switch other, at := r.part.Best(own.Key); {
	case other == nil || slices.Compare(r.m.node.ID[:], at[:]) > 0:
		own.Contested = false
	case other.Lost || !r.m.node.Answers(at) || own.Owner.(*membership).detached:
		// one of them is about to go
		r.contest(own)
	default:
		own.Contested = false
		r.rekey(own)
	}
}

// rekey gives an entry another key, and shows the member of another node that has the old one.
func (r *room) rekey(own *state.Entry) {
	key := own.Key
	own.Rekey()
	if best, at := r.part.Best(key); best != nil {
		partView{r}.Show(key, best, at)
	}
}

// lostPart notes that the connection of a member is lost, or is back.
func (r *room) lostPart(m *membership) {
	if r.part == nil || m.view == nil || m.view.entry == nil {
		return
	}
	own := m.view.entry
	r.changedPart(own.Key)
	if other, at := r.part.Best(own.Key); other != nil {
		partView{r}.giveWay(own, other, at)
	}
}

// Attend implements parts.View.
func (v partView) Attend(user string, more int) {
	r := v.r
	before, now := int32(max(0, -more)), int32(max(0, more)) // of an anonymous one, each is told
	if user != "" {
		before = r.users[user].conns
		r.foreignConns(user, int32(more))
		now = r.users[user].conns
	}
	switch {
	case before == 0 && now > 0:
		r.notifyOf(wire.RoomJoined, user)
	case before > 0 && now == 0:
		r.notifyOf(wire.RoomLeft, user)
	}
	r.changes++
	r.countState()
}

// Recount implements parts.View.
func (v partView) Recount(users, conns int) {
	v.r.foreign = Count{users, conns}
	v.r.changes++
	v.r.countState()
}

// usePart makes the room share its members with the other nodes, if there are any and it shows
// something. The room is new, or its members have left.
func (r *room) usePart() {
	if r.part = nil; r.policy.show != ShowNothing && !r.m.node.Alone() {
		r.part = parts.NewRoom(partView{r})
	}
	r.foreign = Count{}
}

// opening is the time from the first join of a room at this node until the others have said what
// they have of it, or have not answered. Until then members are given nothing of its state: a client
// that comes from another node would see everybody else leave, and come back.
type opening struct {
	asked, done bool
	waiting     []newcomer
}

// newcomer is a member that waits for the state of its room.
type newcomer struct {
	*membership
	asked wire.RoomState
}

// awaitState makes a member wait for the state of the room. It reports false if the state is known.
// The room is locked.
func (r *room) awaitState(m *membership, asked *wire.RoomState) bool {
	if r.m.node.Alone() {
		return false
	}
	if r.opening == nil {
		r.opening = &opening{}
	}
	if r.opening.done {
		return false
	}
	n := newcomer{membership: m}
	if asked != nil {
		n.asked = *asked
		n.asked.Own = nil // the member has it
	}
	r.opening.waiting = append(r.opening.waiting, n)
	return true
}

// opened ends an opening: those who wait and are still members are given the state.
func (r *room) opened(o *opening) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.opening != o || o.done { // all have left, or it took too long
		return
	}
	for _, n := range o.waiting {
		if i := n.index; i >= 0 && i < len(r.members) && r.members[i].membership == n.membership {
			r.beginState(n.membership, &n.asked)
		}
	}
	o.done, o.waiting = true, nil
}

// changedPart notes that the own part of a room has changed. The room is locked.
func (r *room) changedPart(key string) {
	if r.part == nil {
		return
	}
	if key == "" && r.part.Recounted() || key != "" && r.part.Changed(key) {
		r.m.spread.later(r.name)
	}
}

// flushPart queues what the other nodes have not been told. The room is locked. A node that shuts down
// tells nothing more: its clients go to other nodes, and have not left.
func (r *room) flushPart() {
	if r.part == nil || !r.part.Dirty() || r.m.capacity.Closed() {
		return
	}
	m := r.part.Flush(r.m.spread.clock.Next(r.name), func(key string) *parts.Member {
		if r.state == nil {
			return nil
		}
		if e := r.state.Own(key); e != nil {
			return ownMember(e)
		}
		return nil
	})
	r.fillPart(m)
	r.m.spread.push(r.name, m)
}

// ownMember returns an entry of this node as the others learn of it.
func ownMember(e *state.Entry) *parts.Member {
	m := parts.MemberOf(&e.Entry)
	m.Lost = e.Owner.(*membership).detached
	return m
}

// fillPart fills in what a message says about the whole part.
func (r *room) fillPart(m *parts.Message) {
	m.Room, m.Users, m.Conns = r.name, r.ownUsers(), int(r.shown)
}

// wholePart returns the whole own part. The room is locked.
func (r *room) wholePart() *parts.Message {
	r.flushPart()
	m := &parts.Message{Version: r.part.Told(), Members: map[string]*parts.Member{}}
	if m.Version == 0 {
		m.Version = r.m.spread.clock.Last()
	}
	if r.state != nil {
		for _, e := range r.state.OwnEntries() {
			m.Members[e.Key] = ownMember(e)
		}
	}
	r.fillPart(m)
	return m
}

// later tells the other nodes of a room at the end of the tick.
func (s *spreader) later(room string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirty[room] = struct{}{}
	if s.timer == nil {
		s.timer = time.AfterFunc(partTick, func() { s.m.broker.Go(s.flush) })
	}
}

func (s *spreader) flush() {
	s.mu.Lock()
	rooms := s.dirty
	s.dirty, s.timer = map[string]struct{}{}, nil
	s.mu.Unlock()
	for name := range rooms {
		if r := s.m.rooms.lock(name); r != nil {
			r.flushPart()
			r.mu.Unlock()
		}
		s.mu.Lock()
		for len(s.out) > maxOut && !s.closed {
			s.sent.Wait()
		}
		s.mu.Unlock()
	}
}

// push queues a message to the other nodes. A room is locked, so that its messages have their order.
func (s *spreader) push(room string, m *parts.Message) {
	data, err := json.Marshal(m)
	if err != nil { // no: info and state are JSON
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out = append(s.out, outPart{room, data}); !s.sending {
		s.sending = true
		s.m.broker.Go(s.send)
	}
}

// send sends what is queued. What is lost is found by the versions in the signs of life.
func (s *spreader) send() {
	for {
		s.mu.Lock()
		s.sent.Broadcast()
		if len(s.out) == 0 {
			s.sending, s.out = false, nil
			s.mu.Unlock()
			return
		}
		next := s.out[0]
		s.out = s.out[1:]
		s.mu.Unlock()
		_ = s.m.node.SendPart(context.Background(), next.room, next.data)
	}
}

// begin asks the other nodes for their parts and the values of a room that has begun here.
func (s *spreader) begin(room string) {
	s.again(room)
	s.askAll(room)
}

// again notes that all nodes must be asked for what they have in a room.
func (s *spreader) again(room string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fresh[room] = freshRoom{time.Now(), true}
}

// askedAll notes that all nodes have answered for a room.
func (s *spreader) askedAll(room string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fresh[room].again {
		s.fresh[room] = freshRoom{time.Now().Add(askAgain), false}
	} else {
		delete(s.fresh, room)
	}
}

// askAll asks all nodes for their parts of a room, and for its values if they have some. If one does
// not answer, it does so again later. Of nodes that are lost, the others have the parts.
func (s *spreader) askAll(room string) {
	ctx, heard, rooms := context.Background(), []cluster.ID{s.m.node.ID}, []string{room}
	answers, err := s.m.node.FetchRoom(ctx, room, askParts, &ask{Rooms: rooms})
	var lost []cluster.ID
	hasValues := false
	for i := range answers {
		others, valued, _ := s.takeAnswer(answers[i].From, rooms, answers[i].Body)
		heard, lost = append(heard, answers[i].From), append(lost, others...)
		hasValues = hasValues || len(valued) > 0
	}
	lost = slices.DeleteFunc(lost, func(id cluster.ID) bool { return slices.Contains(heard, id) })
	if len(lost) > 0 {
		answers, _ = s.m.node.FetchRoom(ctx, room, askParts, &ask{Rooms: rooms, Nodes: lost})
		for i := range answers {
			s.takeLost(answers[i].Body)
		}
	}
	if err == nil { // before values are asked for, which may fail
		s.askedAll(room)
	}
	if hasValues {
		s.m.learnValues(room)
	}
}

// partsAnswer is the answer of a node that was asked for its parts of rooms. Of rooms that are not
// there, it has none.
type partsAnswer struct {
	Version uint64                    `json:"ver"`
	Parts   map[string]*parts.Message `json:"parts,omitempty"` // by room
	// Values are those of the rooms that have values.
	Values []string `json:"values,omitempty"`
	// Rest is how many of the last rooms must be asked for again.
	Rest int `json:"rest,omitempty"`
}

// takeAnswer takes whole parts of a node that was asked for them. It returns of which other nodes it
// holds parts, and which of the rooms have values there.
func (s *spreader) takeAnswer(
	from cluster.ID, rooms []string, body json.RawMessage,
) (others []cluster.ID, valued []string, err error) {
	var a partsAnswer
	if err := json.Unmarshal(body, &a); err != nil {
		return nil, nil, err
	}
	if a.Rest < 0 || a.Rest >= len(rooms) && len(rooms) > 0 {
		return nil, nil, ErrInvalidMessage
	}
	rest := rooms[len(rooms)-a.Rest:]
	rooms = rooms[:len(rooms)-a.Rest]
	s.askLater(from, rest...)
	for _, name := range rooms {
		m := a.Parts[name]
		if m == nil {
			m = &parts.Message{Version: a.Version}
		}
		m.Room, m.Prev = name, 0
		if err := checkPart(m); err != nil {
			return others, nil, err
		}
		s.take(from, m)
		others = append(others, m.Others...)
	}
	valued = slices.DeleteFunc(a.Values, func(name string) bool { return !slices.Contains(rooms, name) })
	return others, valued, nil
}

// takeLost takes whole parts of nodes that have not answered, from one that holds them.
func (s *spreader) takeLost(body json.RawMessage) {
	var all []*parts.Message
	if json.Unmarshal(body, &all) != nil {
		return
	}
	for _, m := range all {
		if m != nil && m.Prev == 0 && m.From != nil && checkPart(m) == nil {
			s.adopt(*m.From, m)
		}
	}
}

// adopt takes the part of a node that has not answered, from another one.
func (s *spreader) adopt(id cluster.ID, m *parts.Message) {
	if id == s.m.node.ID || m.Left < minLeft {
		return
	}
	s.m.node.Adopt(id, m.Left)
	s.take(id, m)
}

// take takes what a node says about its part of a room. It reports whether the node must be asked.
func (s *spreader) take(from cluster.ID, m *parts.Message) (ask bool) {
	r := s.m.rooms.lock(m.Room)
	if r == nil {
		return false
	}
	defer s.m.rooms.unlock(r)
	if r.part == nil || len(r.members) == 0 && r.shown == 0 {
		return false
	}
	r.retell(func() {
		ask = r.part.Receive(from, m)
		r.judgePart(from) // it may have been sent before the goodbye
	})
	return ask
}

// retell calls do, which changes what is known of other nodes. The room is locked.
func (r *room) retell(do func()) {
	count, version := r.count(), r.version()
	if do(); r.state != nil && r.count() != count && r.version() == version {
		r.state.Touch()
	}
}

// checkPart checks what another node says like what a client says.
func checkPart(m *parts.Message) error {
	if m.Users < 0 || m.Conns < 0 || m.Prev != 0 && m.Version <= m.Prev {
		return ErrInvalidMessage
	}
	for key, member := range m.Members {
		if err := ValidName(key); err != nil {
			return err
		}
		if member == nil {
			continue
		}
		if member.User != "" {
			if err := checkUser(member.User); err != nil {
				return err
			}
		}
		_, err := checkInfo(member.Info)
		if _, bad := checkInfo(member.State); err != nil || bad != nil {
			return ErrInvalidMessage
		}
	}
	return nil
}

// askLater notes that a node must be asked for its part of rooms, and asks.
func (s *spreader) askLater(from cluster.ID, rooms ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.stale[from]
	if len(rooms) == 0 && len(all) == 0 {
		return
	}
	if all == nil {
		all = map[string]struct{}{}
		s.stale[from] = all
	}
	for _, room := range rooms {
		all[room] = struct{}{}
	}
	if len(all) > 0 && !s.asking[from] {
		s.asking[from] = true
		s.m.broker.Go(func() { s.askNode(from) })
	}
}

// askNode asks a node for its parts of the rooms that are stale, until none is or it does not
// answer.
func (s *spreader) askNode(from cluster.ID) {
	for {
		var rooms []string
		s.mu.Lock()
		for room := range s.stale[from] {
			if rooms = append(rooms, room); len(rooms) == maxPartRooms {
				break
			}
		}
		if len(rooms) == 0 {
			delete(s.stale, from)
			delete(s.asking, from)
			s.mu.Unlock()
			return
		}
		for _, room := range rooms {
			delete(s.stale[from], room) // what is said meanwhile makes it stale again
		}
		s.mu.Unlock()
		body, err := s.m.node.Fetch(context.Background(), from, askParts, &ask{Rooms: rooms})
		if err == nil {
			_, valued, bad := s.takeAnswer(from, rooms, body)
			s.m.broker.Go(func() {
				for _, name := range valued {
					s.m.learnValues(name)
				}
			})
			err = bad
		}
		if err != nil {
			s.mu.Lock()
			if s.stale[from] == nil {
				s.stale[from] = map[string]struct{}{}
			}
			for _, room := range rooms { // until it is heard again
				s.stale[from][room] = struct{}{}
			}
			if delete(s.asking, from); s.m.node.State(from) == cluster.Gone {
				delete(s.stale, from)
			}
			s.mu.Unlock()
			return
		}
	}
}

// answer returns the whole parts of rooms that another node asks for, and which of them have values.
func (s *spreader) answer(rooms []string) (any, error) {
	if s.m.capacity.Closed() {
		return nil, ErrClosed
	}
	a := partsAnswer{Version: s.clock.Last(), Parts: map[string]*parts.Message{}}
	members := 0
	for i, name := range rooms {
		if members >= maxPartMembers {
			a.Rest = len(rooms) - i
			break
		}
		if r := s.m.rooms.lock(name); r != nil {
			if r.part != nil {
				m := r.wholePart()
				m.Others = r.part.Nodes()
				a.Parts[name] = m
				members += len(m.Members)
			}
			if r.state != nil && r.state.HasValues() {
				a.Values = append(a.Values, name)
			}
			r.mu.Unlock()
		}
	}
	return a, nil
}

// answerOf returns the parts of other nodes that this one holds.
func (s *spreader) answerOf(nodes []cluster.ID, rooms []string) (all []*parts.Message) {
	for _, name := range rooms {
		r := s.m.rooms.lock(name)
		if r == nil {
			continue
		}
		for _, id := range nodes {
			if r.part == nil {
				break
			}
			if m := r.part.Held(id); m != nil {
				m.Room, m.Left = name, s.m.node.Left(id)
				all = append(all, m)
			}
		}
		r.mu.Unlock()
	}
	return all
}

// beat is what a sign of life says: which parts are new, with their versions.
func (s *spreader) beat() []byte {
	if s.unsure.Swap(false) {
		s.m.broker.Go(func() { s.m.learnDenials(context.Background()) })
	}
	s.mu.Lock()
	var fresh []string
	now := time.Now()
	for room, f := range s.fresh {
		if now.Before(f.due) {
			continue
		}
		if fresh = append(fresh, room); len(fresh) == maxPartRooms {
			break
		}
	}
	s.mu.Unlock()
	for _, room := range fresh {
		if r := s.m.rooms.lock(room); r != nil {
			r.mu.Unlock()
			s.m.broker.Go(func() { s.askAll(room) })
			continue
		}
		s.mu.Lock()
		delete(s.fresh, room)
		s.mu.Unlock()
	}
	data, _ := json.Marshal(s.clock.Due())
	return data
}

// beaten takes the sign of life of another node.
func (s *spreader) beaten(from cluster.ID, data []byte) error {
	var versions map[string]uint64
	if len(data) > 0 {
		if err := json.Unmarshal(data, &versions); err != nil {
			return err
		}
	}
	var stale []string
	for name, version := range versions {
		r := s.m.rooms.lock(name)
		if r == nil {
			continue
		}
		if r.part != nil && r.part.Version(from) < version {
			stale = append(stale, name)
		}
		r.mu.Unlock()
	}
	s.askLater(from, stale...)
	return nil
}

// missed asks a node for what it has in all rooms: it was not heard for some time.
func (s *spreader) missed(from cluster.ID) {
	var rooms []string
	for _, r := range s.m.rooms.index.Values() {
		rooms = append(rooms, r.name)
	}
	s.askLater(from, rooms...)
}

// turned notes that the state of a node has changed. Each room looks at the state by itself: the node
// may be heard again meanwhile.
func (s *spreader) turned(id cluster.ID) {
	if s.m.node.State(id) == cluster.Gone {
		s.mu.Lock()
		delete(s.stale, id)
		s.mu.Unlock()
	}
	for _, r := range s.m.rooms.index.Values() {
		r.mu.Lock()
		if !r.dead && r.part != nil && r.part.Holds(id) {
			r.retell(func() { r.judgePart(id) })
		}
		r.mu.Unlock()
	}
}

// judgePart shows the members of a node as its state says. The room is locked.
func (r *room) judgePart(id cluster.ID) {
	switch r.m.node.State(id) {
	case cluster.Gone:
		r.part.Forget(id)
	case cluster.Lost:
		r.part.SetLost(id, true)
	case cluster.Alive:
		r.part.SetLost(id, false)
	}
}

func (s *spreader) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
	s.closed = true
	s.sent.Broadcast()
}

// nodeEvents is a Manager as its node sees it.
type nodeEvents struct{ m *Manager }

// Answer implements cluster.Events.
func (e nodeEvents) Answer(ctx context.Context, method string, body json.RawMessage) (any, error) {
	return e.m.answer(ctx, method, body)
}

// Sync implements cluster.Events.
func (e nodeEvents) Sync(ctx context.Context) { e.m.learnDenials(ctx) }

// Beat implements cluster.Events.
func (e nodeEvents) Beat() []byte { return e.m.spread.beat() }

// Beaten implements cluster.Events.
func (e nodeEvents) Beaten(from cluster.ID, data []byte) error { return e.m.spread.beaten(from, data) }

// Part implements cluster.Events.
func (e nodeEvents) Part(from cluster.ID, data []byte) error {
	var m parts.Message
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	if err := checkPart(&m); err != nil {
		return err
	}
	if e.m.spread.take(from, &m) {
		e.m.spread.askLater(from, m.Room)
	}
	return nil
}

// Missed implements cluster.Events.
func (e nodeEvents) Missed(from cluster.ID) { e.m.broker.Go(func() { e.m.spread.missed(from) }) }

// Turned implements cluster.Events.
func (e nodeEvents) Turned(id cluster.ID) { e.m.broker.Go(func() { e.m.spread.turned(id) }) }
