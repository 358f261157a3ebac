package modeltest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/realtime-go/realtime"
)

// anchored are the rooms that always have a member. A message to several rooms at once has a place
// in the order of each room that exists when it is sent. These rooms always exist.
var anchored = rooms[:2]

// stormUsers are the users whose connections open and end in a storm; "" is anonymous.
var stormUsers = []string{"ann", "bob", "cem", ""}

// actor is one goroutine of a storm, with its own connection.
type actor struct {
	s       *storm
	name    string
	random  *rand.Rand
	home    *end
	sent    int
	chats   int
	rooms   []string // the rooms of its home
	must    []string // messages that its home must receive
	mustNot []string // messages that its home must not receive
}

func newActor(s *storm, i int, seed uint64) *actor {
	a := &actor{
		s: s, name: fmt.Sprintf("home%d", i),
		random: rand.New(rand.NewPCG(seed, uint64(i))),
	}
	a.home = s.add(&end{user: a.name, home: true})
	return a
}

// play performs random acts.
func (a *actor) play() {
	for range acts {
		switch a.random.IntN(10) {
		case 0:
			stalled := a.s.tight && a.random.IntN(3) == 0
			a.s.add(&end{user: pickOne(a, stormUsers), stalled: stalled})
		case 1:
			a.close()
		case 2:
			a.moveHome()
		case 3, 4:
			a.moveOther()
		case 5:
			a.chat()
		default:
			a.send()
		}
	}
}

func pickOne[T any](a *actor, from []T) T { return from[a.random.IntN(len(from))] }

// close ends the connection of another, in a random way.
func (a *actor) close() {
	e := a.s.randomEnd(a.random)
	if e == nil {
		return
	}
	switch a.random.IntN(6) {
	case 0:
		_, _ = a.s.rt.User(e.user).Disconnect(a.s.ctx, 4001, "out")
	case 1, 2:
		_ = e.conn.Close(4000, "kicked")
	case 3:
		a.s.markClosed(e)
		_ = e.pipe.Close(realtime.CloseNormal, "")
	default:
		a.s.markClosed(e)
		e.pipe.Drop()
	}
}

// moveHome joins or leaves a room with the actor's own connection. Only the actor does this, so the
// result is certain.
func (a *actor) moveHome() {
	room := pickOne(a, rooms)
	if i := slices.Index(a.rooms, room); i >= 0 {
		left, err := a.s.rt.Leave(a.s.ctx, a.home.conn.ID(), room)
		a.expect(left && err == nil, "leave", err)
		a.rooms = slices.Delete(a.rooms, i, i+1)
		return
	}
	joined, err := a.s.rt.Join(a.s.ctx, a.home.conn.ID(), room)
	a.expect(joined && err == nil, "join", err)
	a.rooms = append(a.rooms, room)
}

func (a *actor) expect(ok bool, what string, err error) {
	if !ok {
		a.s.t.Errorf("%s of %s: %v", what, a.name, err)
	}
}

// moveOther joins or leaves a room with a connection that others move and close too.
func (a *actor) moveOther() {
	e, room := a.s.randomEnd(a.random), pickOne(a, rooms)
	if e == nil {
		return
	}
	id := e.conn.ID()
	var err error
	switch a.random.IntN(5) {
	case 0:
		a.s.post("/connections/"+id+"/join", `{"room_id":`+quote(room)+`}`)
	case 1:
		a.s.post("/connections/"+id+"/leave", "")
	case 2:
		_, err = a.s.rt.Leave(a.s.ctx, id, room)
	default:
		_, err = a.s.rt.Join(a.s.ctx, id, room)
	}
	ended := errors.Is(err, realtime.ErrNotFound) || errors.Is(err, realtime.ErrClosed)
	a.expect(err == nil || ended, "move", err)
}

// chat writes a chat to all from the actor's own connection.
func (a *actor) chat() {
	a.chats++
	text := fmt.Sprintf("%s-chat/%d/*", a.name, a.chats)
	line := fmt.Sprintf(`{"content":%s,"target":"all"}`, quote(text))
	a.expect(a.home.pipe.Write([]byte(line)) == nil, "chat", nil)
}

// send sends to some rooms, a user or all. The text contains the actor, the number of the message,
// and the channels in whose order the message has a place.
func (a *actor) send() {
	to, channels := a.target()
	a.sent++
	text := fmt.Sprintf("%s/%d/%s", a.name, a.sent, strings.Join(channels, "|"))
	padded := text
	if a.s.tight {
		padded += strings.Repeat(".", 4<<10)
	}
	if to.All {
		a.s.mu.Lock()
		a.s.toAll = append(a.s.toAll, text)
		a.s.mu.Unlock()
	}
	result, err := a.s.rt.Send(a.s.ctx, to, realtime.Chat("", padded))
	a.expect(err == nil && result.Matched == result.Queued+result.Dropped, "send", err)
	in := func(room string) bool { return slices.Contains(a.rooms, room) }
	if to.All || slices.ContainsFunc(to.Rooms, in) {
		a.must = append(a.must, text)
	} else {
		a.mustNot = append(a.mustNot, text)
	}
}

// target draws a target, and returns the channels in which its messages are ordered.
func (a *actor) target() (to realtime.Target, channels []string) {
	room := pickOne(a, rooms)
	switch a.random.IntN(8) {
	case 0:
		return realtime.ToAll().Union(realtime.ToRoom(anchored...)), append([]string{"*"}, anchored...)
	case 1:
		return realtime.ToUser("ann"), []string{"@ann"}
	case 2, 3:
		return realtime.ToRoom(anchored...), anchored
	default:
		return realtime.ToRoom(room), []string{room}
	}
}

// check compares what the actor's own connection has received with its rooms at each message.
func (a *actor) check() {
	got := make(map[string]bool)
	for _, text := range a.home.got {
		got[text] = true
	}
	for _, text := range a.mustNot {
		a.expect(!got[text], "not member, but got "+text, nil)
	}
	for _, text := range a.must {
		a.expect(got[text] || a.s.tight, "member, but did not get "+text, nil)
	}
}
