package realtime

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/realtime-go/realtime/internal/cluster"
	"github.com/realtime-go/realtime/internal/parts"
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
	lacking map[string]struct{}  // rooms that have not taken values because memory was short
}

// outPart is what the other nodes are to be told of a room.
type outPart struct {
	room string
	data []byte
}

// freshRoom is a room of which all nodes must be asked.
type freshRoom struct {
	due   time.Time
	again bool // and once more
}

func newSpreader(m *Manager) *spreader {
	s := &spreader{
		m: m, clock: parts.NewClock(), dirty: map[string]struct{}{},
		stale: map[cluster.ID]map[string]struct{}{}, asking: map[cluster.ID]bool{},
		fresh: map[string]freshRoom{}, lacking: map[string]struct{}{},
	}
	s.sent = sync.NewCond(&s.mu)
	return s
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
	data, err := wire.Marshal(m)
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

// send sends what is queued, that of different rooms at once. The versions in the signs of life find
// what is lost.
func (s *spreader) send() {
	for {
		some := s.takeOut()
		if len(some) == 0 {
			return
		}
		var sending sync.WaitGroup
		for _, p := range some {
			sending.Go(func() { _ = s.m.node.SendPart(context.Background(), p.room, p.data) })
		}
		sending.Wait()
	}
}

// takeOut takes the first of what is queued, one message of each room. If there is nothing, sending has
// ended.
func (s *spreader) takeOut() (some []outPart) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rooms := map[string]bool{}
	for _, p := range s.out {
		if rooms[p.room] || len(some) == maxOut {
			break
		}
		rooms[p.room], some = true, append(some, p)
	}
	if s.out = s.out[len(some):]; len(some) == 0 {
		s.sending, s.out = false, nil
	}
	s.sent.Broadcast()
	return some
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

// lacks notes that a room has not taken a value of another node because memory is short. All nodes are
// asked when it is not any more.
func (s *spreader) lacks(room string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lacking[room] = struct{}{}
}

// askedAll notes that all nodes have answered for a room.
func (s *spreader) askedAll(room string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fresh[room] = freshRoom{time.Now().Add(askAgain), false}
}

// askAll asks all nodes for their parts of a room, and for its values if they have some. If one does
// not answer, it does so again later. Of nodes that are lost, the others have the parts.
func (s *spreader) askAll(room string) {
	part := s.m.rooms.part(room)
	ctx, heard, rooms := context.Background(), []cluster.ID{s.m.node.ID}, []string{room}
	answers, err := s.m.node.FetchRoom(ctx, room, askParts, &ask{Rooms: rooms})
	found := len(answers)
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
		if found == 0 {
			s.m.rooms.foundNobody(room, part)
		}
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
		if err := s.check(m); err != nil {
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
		if m != nil && m.Prev == 0 && m.From != nil && s.check(m) == nil {
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
	if r.part == nil || r.deserted() {
		return false
	}
	r.retell(func() {
		ask = r.part.Receive(from, m)
		r.judgePart(from) // it may have been sent before the goodbye
	})
	return ask
}

// check checks what another node says of its part like what a client says. Members that are not valid
// are dropped and noted: the others must be shown all the same.
func (s *spreader) check(m *parts.Message) error {
	if m.Users < 0 || m.Conns < 0 || m.Prev != 0 && m.Version <= m.Prev {
		return ErrInvalidMessage
	}
	for key, member := range m.Members {
		if err := checkForeign(m.Room, key, member); err != nil {
			sink{s.m}.invalid(err)
			delete(m.Members, key)
		}
	}
	return nil
}

// checkForeign checks a member of a room at another node, or, if it is nil, only its key.
func checkForeign(room, key string, m *parts.Member) error {
	if m == nil || room == everybody {
		if m != nil && m.User != key {
			return ErrInvalidMessage
		}
		return ValidName(key)
	}
	if m.User != "" {
		if err := checkUser(m.User); err != nil {
			return err
		}
	}
	_, badInfo := checkInfo(m.Info)
	_, badState := checkInfo(m.State)
	return cmp.Or(ValidName(key), badInfo, badState)
}

// askLater notes that a node must be asked for its part of rooms, and asks.
func (s *spreader) askLater(from cluster.ID, rooms ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mark(from, rooms)
	if len(s.stale[from]) > 0 && !s.asking[from] {
		s.asking[from] = true
		s.m.broker.Go(func() { s.askNode(from) })
	}
}

// mark marks rooms of a node as stale. s.mu is held.
func (s *spreader) mark(from cluster.ID, rooms []string) {
	if len(rooms) > 0 && s.stale[from] == nil {
		s.stale[from] = map[string]struct{}{}
	}
	for _, room := range rooms {
		s.stale[from][room] = struct{}{}
	}
}

// takeStale returns some of the rooms of a node that are stale, and unmarks them: what is said
// meanwhile makes them stale again. If there are none, the question has ended.
func (s *spreader) takeStale(from cluster.ID) (rooms []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for room := range s.stale[from] {
		delete(s.stale[from], room)
		if rooms = append(rooms, room); len(rooms) == maxPartRooms {
			break
		}
	}
	if len(rooms) == 0 {
		delete(s.stale, from)
		delete(s.asking, from)
	}
	return rooms
}

// askNode asks a node for its parts of the rooms that are stale, until none is or it does not
// answer.
func (s *spreader) askNode(from cluster.ID) {
	for {
		rooms := s.takeStale(from)
		if len(rooms) == 0 {
			return
		}
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
			s.failed(from, rooms)
			return
		}
	}
}

// failed ends a question that was not answered: the rooms stay stale until the node is heard again.
func (s *spreader) failed(from cluster.ID, rooms []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mark(from, rooms)
	if delete(s.asking, from); s.m.node.State(from) == cluster.Gone {
		delete(s.stale, from)
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
				r.part.Heard()
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

// beat returns which parts are new, with their versions.
func (s *spreader) beat() map[string]uint64 {
	first, again := s.dueRooms(time.Now())
	for _, room := range first {
		s.m.broker.Go(func() { s.askAll(room) })
	}
	if len(again) > 0 {
		for _, id := range s.m.node.Peers() {
			s.askLater(id, again...)
		}
	}
	return s.clock.Due()
}

// dueRooms returns some of the rooms of which not all nodes have answered yet, and those of which all
// nodes must be asked once more.
func (s *spreader) dueRooms(now time.Time) (first, again []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.lacking) > 0 && !s.m.stateConfig.Short() {
		for room := range s.lacking {
			s.fresh[room] = freshRoom{now, true}
		}
		clear(s.lacking)
	}
	for room, f := range s.fresh {
		_, exists := s.m.rooms.index.Get(room)
		switch {
		case !exists:
			delete(s.fresh, room)
		case now.Before(f.due):
		case !f.again:
			delete(s.fresh, room)
			again = append(again, room)
		case len(first) < maxPartRooms:
			first = append(first, room)
		}
	}
	return first, again
}

// beaten takes what the sign of life of another node says of its parts.
func (s *spreader) beaten(from cluster.ID, versions map[string]uint64) {
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

func (s *spreader) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
	s.closed = true
	s.sent.Broadcast()
}
