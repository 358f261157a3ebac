package integration_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// unionMember is a client in a random schedule of messages to several targets. It reads two rooms
// and an inbox, is slow, is lost, and continues at its position.
type unionMember struct {
	t    *testing.T
	b    *bed
	seed uint64
	user string
	c    *client

	places map[string]*streamClient // by room; the inbox has the empty name
	asked  int                      // the id of the last request
	joins  map[int]string           // the room of each request, by its id
	waits  map[string]bool          // rooms whose messages are ignored until the join is answered
	token  string                   // of the session
	here   []string                 // messages over this connection
	shown  map[string]bool          // messages over all connections
	back   bool                     // it has rejoined rooms of a resumed session, so messages may repeat
	trace  []string
}

func (b *bed) unionMember(seed uint64, user string, open func() *client) *unionMember {
	m := &unionMember{t: b.t, b: b, seed: seed, user: user, places: map[string]*streamClient{}, shown: map[string]bool{}}
	m.connect(open)
	return m
}

func (m *unionMember) connect(open func() *client) {
	m.c, m.here, m.back = open(), nil, false
	m.joins, m.waits = map[int]string{}, map[string]bool{}
	m.places[""] = &streamClient{t: m.t}
	for _, room := range []string{"a", "b"} {
		m.waits[room] = true
		if m.places[room] == nil {
			m.places[room] = &streamClient{t: m.t}
		}
	}
}

func (m *unionMember) ask(kind, room string, more string) {
	m.asked++
	m.joins[m.asked] = room
	if kind == "resume" {
		room = ""
	}
	if room != "" {
		more = fmt.Sprintf(`,"room":%q`, room) + more
	}
	require.NoError(m.t, m.c.Write(fmt.Appendf(nil, `{"type":%q,"id":%d%s}`, kind, m.asked, more)))
}

// listen processes the frames since the last call. Each message comes once over a connection.
func (m *unionMember) listen() {
	for _, text := range m.c.raw() {
		m.trace = append(m.trace, text)
		var f struct {
			keptFrame
			ID json.RawMessage `json:"id"`
		}
		require.NoError(m.t, json.Unmarshal([]byte(strings.Replace(text, `"timestamp":T`, `"timestamp":0`, 1)), &f))
		room := f.Room
		switch f.Type {
		case "welcome":
			var w welcomeContent
			require.NoError(m.t, json.Unmarshal(f.Content, &w))
			m.token = w.Session
		case "error":
			require.Contains(m.t, text, `"code":"session"`)
			continue
		case "reply":
			var id int
			require.NoError(m.t, json.Unmarshal(f.ID, &id))
			room = m.joins[id]
			if room == "ignore" {
				continue
			}
		case "joined":
			continue
		}
		if f.Type == "reply" {
			delete(m.waits, room)
		}
		if m.waits[room] {
			continue
		}
		if f.Type == "news" {
			word := strings.Trim(string(f.Content), `"`)
			require.True(m.t, m.back || !slices.Contains(m.here, word), "twice, seed %d, %s: %s\n%s", m.seed, m.user, text, m.tail())
			m.here = append(m.here, word)
			m.shown[word] = true
		}
		m.places[room].receive([]string{text})
	}
}

func (m *unionMember) tail() string {
	return strings.Join(m.trace[max(0, len(m.trace)-60):], "\n")
}

// join joins the rooms at the positions of the client.
func (m *unionMember) join(kind string, together bool) {
	for _, room := range []string{"a", "b"} {
		how := ""
		if r := m.places[room]; r != nil && r.at.Epoch != "" {
			how = since(r.at)
		}
		m.ask(kind, room, how)
		if !together {
			m.listen()
		}
	}
	m.listen()
}

// fewSchedules is schedules for tests that take longer.
func fewSchedules() uint64 { return schedules() / 5 }

// In any order of events, each member of several rooms with an inbox receives each message, and no
// connection receives a message twice.
func TestUnionsUnderRandomSchedules(t *testing.T) {
	for seed := range fewSchedules() {
		o := keeping(10_000)
		o.History.Bytes = -1
		o.Inbox.Keep = realtime.Retention{Messages: 10_000, Bytes: -1}
		o.Inbox.PerDevice, o.Inbox.Attempts = true, -1
		o.Limits.QueueMessages, o.Limits.InboundRate, o.Limits.ConnsPerUser = 8, -1, -1
		o.Timeouts.Resume = time.Minute
		bubble(t, o, func(t *testing.T, b *bed) { unionsUnderARandomSchedule(t, b, seed) })
	}
}

func unionsUnderARandomSchedule(t *testing.T, b *bed, seed uint64) {
	dice, n := rand.New(rand.NewPCG(seed, 3)), 0
	due := map[string][]string{}
	users := []string{"u0", "u1", "u2"}
	say := func(most int) {
		for range 1 + dice.IntN(most) {
			n++
			word, to, receivers := fmt.Sprint("m", n), realtime.Target{}, map[string]bool{}
			k := 1 + dice.IntN(7)
			if k&1 != 0 {
				to = to.Union(realtime.ToRoom("a"))
			}
			if k&2 != 0 {
				to = to.Union(realtime.ToRoom("b"))
			}
			if k&3 != 0 {
				for _, u := range users {
					receivers[u] = true
				}
			}
			if k&4 != 0 {
				for _, u := range users[:1+dice.IntN(3)] {
					to = to.Union(realtime.ToUser(u))
					receivers[u] = true
				}
			}
			if dice.IntN(5) == 0 {
				u := users[dice.IntN(3)]
				to = to.ExceptUser(u)
				delete(receivers, u)
			}
			b.news(to, word)
			for u := range receivers {
				due[u] = append(due[u], word)
			}
		}
	}
	members := make([]*unionMember, 3)
	opener := func(i int) func() *client {
		return func() *client {
			return b.openV1(realtime.Identity{UserID: users[i], Device: "d"})
		}
	}
	for i := range members {
		members[i] = b.unionMember(seed, users[i], opener(i))
		members[i].join("join", false)
	}
	for range 60 {
		i := dice.IntN(len(members))
		m := members[i]
		switch dice.IntN(6) {
		case 0, 1:
			say(25)
		case 2:
			m.listen()
		case 3:
			m.listen()
			m.c.Drop()
			synctest.Wait()
			say(30)
			m.connect(opener(i))
			m.join("join", dice.IntN(2) == 0)
		case 4:
			m.listen()
			old := m.c
			say(30)
			m.connect(opener(i))
			m.join("join", dice.IntN(2) == 0)
			old.Drop()
		default:
			m.listen()
			m.c.Drop()
			if dice.IntN(2) == 0 {
				synctest.Wait()
			}
			say(30)
			token := m.token
			m.connect(opener(i))
			m.ask("resume", "ignore", fmt.Sprintf(`,"session":%q`, token))
			if dice.IntN(2) == 0 {
				say(30)
			}
			m.back = true
			m.join("join", dice.IntN(2) == 0)
		}
	}
	for _, m := range members {
		m.listen()
		var missing []string
		for _, word := range due[m.user] {
			if !m.shown[word] {
				missing = append(missing, word)
			}
		}
		require.Empty(t, missing, "lost, seed %d, %s\n%s", seed, m.user, m.tail())
		for word := range m.shown {
			require.True(t, slices.Contains(due[m.user], word), "seed %d, %s: %s", seed, m.user, word)
		}
		for room, r := range m.places {
			require.Empty(t, r.gaps, "%s", room)
		}
	}
}

// A plain client, which sends neither positions nor acknowledgements, receives each message to its
// rooms and its user once, if it was connected when the message was sent.
func TestUnionsToPlainClients(t *testing.T) {
	for seed := range fewSchedules() {
		o := keeping(10_000)
		o.History.Bytes = -1
		o.Inbox.Keep = realtime.Retention{Messages: 10_000, Bytes: -1}
		o.Inbox.Attempts = -1
		o.Slow = realtime.SlowCatchUp
		o.Limits.QueueMessages, o.Timeouts.Write, o.Timeouts.Ping = 8, time.Hour, -1
		bubble(t, o, func(t *testing.T, b *bed) { unionsToAPlainClient(t, b, seed) })
	}
}

func unionsToAPlainClient(t *testing.T, b *bed, seed uint64) {
	dice, n := rand.New(rand.NewPCG(seed, 4)), 0
	var c *client
	var here, present []string // of this connection: messages received, and messages sent meanwhile
	open := func() {
		c, here, present = b.stalled("bob"), nil, nil
		b.joinAll(c, "a", "b")
		c.pace(time.Duration(dice.IntN(3)) * time.Millisecond)
	}
	listen := func() {
		for _, text := range c.got() {
			word, ok := strings.CutPrefix(text, "news ")
			if !ok {
				continue
			}
			require.NotContains(t, here, word, "seed %d", seed)
			here = append(here, word)
		}
	}
	open()
	for range 60 {
		switch dice.IntN(6) {
		case 0, 1, 2:
			for range 1 + dice.IntN(25) {
				n++
				k, to, word := 1+dice.IntN(7), realtime.Target{}, fmt.Sprintf(`"m%d"`, n)
				for i, part := range []realtime.Target{
					realtime.ToRoom("a"), realtime.ToRoom("b"), realtime.ToUser("bob"),
				} {
					if k&(1<<i) != 0 {
						to = to.Union(part)
					}
				}
				present = append(present, word)
				b.news(to, strings.Trim(word, `"`))
			}
		case 3:
			listen()
		case 4:
			time.Sleep(time.Duration(dice.IntN(20)) * time.Millisecond)
		default:
			if dice.IntN(2) == 0 { // the client has read everything
				time.Sleep(time.Minute)
				listen()
				require.Subset(t, here, present, "seed %d", seed)
			}
			listen()
			c.Drop()
			synctest.Wait() // otherwise messages that the old connection has taken count as acknowledged
			open()
		}
	}
	time.Sleep(time.Minute)
	listen()
	require.Subset(t, here, present, "seed %d", seed)
}
