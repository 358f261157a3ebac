package client_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// viewer records what one client of a person is told.
type viewer struct {
	*client.Client
	*person
	name    string
	reading sync.WaitGroup

	mu    sync.Mutex
	ended bool
	rooms map[string]*roomView
	given map[string]string // values of the connection
	due   map[string]string // what they must be
}

// roomView is what a client has been told of a room.
type roomView struct {
	joins    int // calls of Join
	restarts int // times at which the changes began anew
	members  map[string]client.Member
	now      client.Presence
	values   map[string]seenValue

	own      string // the state that the client has set, if that is known
	ownKnown bool
	kicks    int
}

// seenValue is the last value of a key. It is old if the client may have left the room since.
type seenValue struct {
	content string
	old     bool
}

func (v *viewer) close() {
	_ = v.Close()
	v.reading.Wait()
}

func (v *viewer) hasEnded() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.ended
}

func (v *viewer) onState(s client.State) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ended = s.Phase == client.Closed
}

// onPresence applies a change. It checks that the result is what the room shows.
func (v *viewer) onPresence(room string, now client.Presence, change client.PresenceChange) {
	v.mu.Lock()
	defer v.mu.Unlock()
	r, t := v.rooms[room], v.w.t
	who := fmt.Sprintf("%s in %s", v.name, room)
	if len(r.members) > 0 && len(change.Joined) == len(now.Members) && r.restarts < r.joins &&
		len(change.Left)+len(change.Updated) == 0 { // the client has left, and joined again
		r.restarts++
		clear(r.members)
	}
	for _, m := range change.Left {
		assert.Equal(t, r.members[m.Key], m, "left: %s", who)
		delete(r.members, m.Key)
	}
	for _, m := range change.Joined {
		assert.NotContains(t, r.members, m.Key, "joined: %s", who)
		r.members[m.Key] = m
	}
	for _, m := range change.Updated {
		assert.Contains(t, r.members, m.Key, "updated: %s", who)
		assert.NotEqual(t, r.members[m.Key], m, "updated: %s", who)
		r.members[m.Key] = m
	}
	r.now = now
	if !assert.Equal(t, now.Members, r.sorted(), "after the change: %s", who) {
		v.w.t.FailNow()
	}
}

// sorted returns the members that the changes have led to.
func (r *roomView) sorted() []client.Member {
	members := make([]client.Member, 0, len(r.members))
	for _, m := range r.members {
		members = append(members, m)
	}
	slices.SortFunc(members, func(a, b client.Member) int {
		if a.User != b.User {
			return cmp.Compare(a.User, b.User)
		}
		return cmp.Compare(a.Key, b.Key)
	})
	return members
}

// check compares what the client knows of a room with what it has been told, and with what it has
// said itself.
func (v *viewer) check(room string, now client.Presence, who string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	r, t := v.rooms[room], v.w.t
	require.Equal(t, r.now, now, who)
	mine := 0
	for _, m := range now.Members {
		require.Equal(t, m.Me, m.Me && numberOf(m.Info) == v.n, who)
		if !m.Me {
			continue
		}
		mine++
		if r.ownKnown {
			require.Equal(t, r.own, string(m.State), "own state: %s", who)
		}
	}
	require.Equal(t, 1, mine, who)
}

func (v *viewer) checkValues(room string, want map[string]seenValue) {
	v.mu.Lock()
	defer v.mu.Unlock()
	r, t := v.rooms[room], v.w.t
	for key, value := range want {
		require.Equal(t, value.content, r.values[key].content, "%s in %s: %s", v.name, room, key)
	}
	for key, value := range r.values {
		if want[key].content == "" && !value.old {
			require.Equal(t, "null", value.content, "%s in %s: %s was removed", v.name, room, key)
		}
	}
}

// read records values, and that the client was removed from a room.
func (v *viewer) read() {
	for msg, err := range v.Messages() {
		if refused, ok := err.(*client.RoomError); ok {
			if refused.Member {
				v.count("state refused")
			}
			v.forgetRoom(refused.Room)
		}
		if err != nil || msg.Latest == "" {
			continue
		}
		v.mu.Lock()
		if r := v.rooms[msg.Room]; r != nil {
			r.values[msg.Latest] = seenValue{content: string(msg.Content)}
		} else {
			v.given[msg.Latest] = string(msg.Content)
		}
		v.mu.Unlock()
	}
}

// forgetRoom notes that the client may have left a room, and that its state there is not known.
func (v *viewer) forgetRoom(room string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := v.rooms[room]
	r.ownKnown = false
	r.kicks++
	for key, value := range r.values {
		value.old = true
		r.values[key] = value
	}
}

// expect notes what a value of the connection must be.
func (v *viewer) expect(m realtime.Message) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if string(m.Content) == "null" && v.due[m.Latest] == "" {
		return // the client does not know the key
	}
	v.due[m.Latest] = string(m.Content)
}

// forgetDue notes that the session is going to end, with the values of the connection.
func (v *viewer) forgetDue() {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.due)
}

func (v *viewer) join(room string, o client.JoinOptions) {
	v.mu.Lock()
	r := v.rooms[room]
	r.joins++
	kicks := r.kicks
	v.mu.Unlock()
	if err := v.JoinWith(context.Background(), room, o); err != nil {
		v.count("join refused")
		return
	}
	v.count("join")
	v.mu.Lock()
	defer v.mu.Unlock()
	if state, ok := o.State.(json.RawMessage); ok && kicks == r.kicks {
		r.own, r.ownKnown = stateText(state), true
	}
}

func (v *viewer) leave(room string) {
	if v.Leave(context.Background(), room) == nil {
		v.count("leave")
	}
	time.Sleep(time.Millisecond) // what has arrived before is read then
	v.forgetRoom(room)
}

func (v *viewer) setState(room string, state json.RawMessage) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.SetState(room, state) == nil {
		v.person.count("state")
		r := v.rooms[room]
		r.own, r.ownKnown = stateText(state), true
	}
}

// stateText returns a state as the server shows it.
func stateText(state json.RawMessage) string {
	if string(state) == "null" {
		return ""
	}
	return string(state)
}
