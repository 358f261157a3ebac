package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
	"github.com/realtime-go/realtime/internal/long"
)

// TestPresenceStress tests that what clients know of a room is exactly what the server shows, a
// second after the last of many joins, states, values, interruptions, reloads and kicks, and that
// the changes that OnPresence reports lead there one after another.
func TestPresenceStress(t *testing.T) {
	people, seconds, seeds := long.Of(30, 200, 200), long.Of(20, 30, 30), long.Of(1, 1, 5)
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			runs := make(chan *crowd, 1)
			o := realtime.Options{
				Show: realtime.ShowMembers, Authenticate: authenticatePerson,
				Timeouts: realtime.Timeouts{Resume: crowdGrace},
				Limits:   realtime.Limits{ConnsPerUser: -1, InboundRate: -1},
			}
			withManager(t, o, func(t *testing.T, w *testEnv) {
				s := newCrowd(w, uint64(seed), people)
				s.run(time.Duration(seconds) * time.Second)
				s.settle()
				s.check(false)
				s.checkValues()
				time.Sleep(crowdGrace) // the sessions end of clients that do not come back
				s.check(true)
				runs <- s
			})
			s := <-runs
			t.Log(s.done)
			for _, what := range crowdActions {
				require.Positive(t, s.done[what], what)
			}
		})
	}
}

const (
	crowdGrace = 5 * time.Second
	crowdKeys  = 12  // of values in a room
	crowdBurst = 200 // more changes than the server remembers
)

// crowdRooms are the rooms. The attic has few members and is often empty. The application adds
// clients to the hall.
var crowdRooms = []string{"lobby", "board", "attic", "hall"}

// crowdActions are the names of what happens in each run.
var crowdActions = []string{
	"join", "leave", "state", "value", "removal", "burst", "close", "reload",
	"cut", "loss", "long cut", "added", "info", "removed", "denied", "disconnected",
	"value of a connection", "removal of a connection's value",
}

// crowd is a server with many clients.
type crowd struct {
	w      *testEnv
	random *rand.Rand // used by run only
	people []*person
	later  []laterAction

	mu      sync.Mutex
	number  int
	done    map[string]int
	viewers map[string]*viewer // by name
	ended   bool
}

// laterAction is an action of run that is due at a time.
type laterAction struct {
	at time.Time
	do func()
}

// person has a client, and a new one after a reload. Several persons are devices of one user.
type person struct {
	*crowd
	n      int
	user   string
	random *rand.Rand
	line   *personLine
	acting sync.WaitGroup

	interrupted bool // used by run only

	mu   sync.Mutex
	made int
	view *viewer // of the client; the last one
}

func newCrowd(w *testEnv, seed uint64, people int) *crowd {
	s := &crowd{
		w: w, random: rand.New(rand.NewPCG(seed, 0)),
		done: map[string]int{}, viewers: map[string]*viewer{},
	}
	for n := range people {
		p := &person{crowd: s, n: n, random: rand.New(rand.NewPCG(seed, uint64(n)+1))}
		if n%10 > 0 { // others are anonymous
			p.user = fmt.Sprint("user", n/2)
		}
		p.line = &personLine{network: w.memoryNetwork}
		s.people = append(s.people, p)
		p.dial()
	}
	return s
}

// count notes that something has happened.
func (s *crowd) count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done[what]++
}

// next returns a content that no other state and no other value has.
func (s *crowd) next() json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.number++
	return fmt.Appendf(nil, `{"i":%d}`, s.number)
}

// authenticatePerson admits the person with a number, over the client with a name.
func authenticatePerson(r *http.Request) (realtime.Identity, error) {
	id, err := realtime.InsecureQueryUser(r)
	id.Data = r.URL.Query().Get("name")
	id.Info = json.RawMessage(`{"n":` + r.URL.Query().Get("n") + `}`)
	return id, err
}

// dial replaces the client by a new one, which has the same key.
func (p *person) dial() {
	p.line.awaitUp()
	p.mu.Lock()
	p.made++
	v := &viewer{person: p, rooms: map[string]*roomView{}, given: map[string]string{}}
	v.due, v.name = map[string]string{}, fmt.Sprint(p.n, ".", p.made)
	p.mu.Unlock()
	for _, room := range crowdRooms {
		v.rooms[room] = &roomView{values: map[string]seenValue{}, members: map[string]client.Member{}}
	}
	p.crowd.mu.Lock()
	p.viewers[v.name] = v
	p.crowd.mu.Unlock()
	url := fmt.Sprintf("ws://realtime.test/ws?n=%d&name=%s&presence_key=key%d", p.n, v.name, p.n)
	if p.user != "" {
		url += "&user_id=" + p.user
	}
	c, err := client.Dial(context.Background(), url, &client.DialOptions{
		HTTPClient: p.line.client(), OnPresence: v.onPresence, OnState: v.onState,
	})
	if err != nil {
		p.w.t.Errorf("person %d: %v", p.n, err)
		return
	}
	v.Client = c
	v.reading.Go(v.read)
	p.w.t.Cleanup(v.close)
	p.mu.Lock()
	p.view = v
	p.mu.Unlock()
}

// current returns the recorder of the client.
func (p *person) current() *viewer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.view
}

// live does what a person does, until the end.
func (p *person) live() {
	for !p.isOver() {
		time.Sleep(time.Duration(p.random.Int64N(int64(2 * time.Second))))
		if p.current().hasEnded() {
			p.current().close()
			p.dial()
		}
		p.act(p.current())
	}
}

func (s *crowd) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// act does one thing at random.
func (p *person) act(v *viewer) {
	room := crowdRooms[p.random.IntN(2)]
	if p.random.IntN(4) == 0 {
		room = crowdRooms[2+p.random.IntN(2)]
	}
	switch k := p.random.IntN(100); {
	case k < 38:
		p.join(v, room)
	case k < 43:
		v.leave(room)
	case k < 65:
		v.setState(room, p.state())
	case k < 92:
		p.setValue(v, room)
	case k < 94:
		p.count("close")
		v.close()
		p.dial()
	case k < 98: // like the page of a browser whose connection is lost
		p.count("reload")
		p.line.cut()
		v.close()
		time.Sleep(time.Duration(p.random.Int64N(int64(2 * time.Second))))
		p.dial()
	}
}

// state returns a state at random: null means none.
func (p *person) state() json.RawMessage {
	if p.random.IntN(5) == 0 {
		return json.RawMessage("null")
	}
	return p.next()
}

func (p *person) join(v *viewer, room string) {
	o := client.JoinOptions{Presence: p.random.IntN(4) > 0}
	if p.random.IntN(2) == 0 {
		o.State = p.state()
	}
	v.join(room, o)
	if room == "attic" && p.random.IntN(4) > 0 {
		time.Sleep(time.Second)
		v.leave(room)
	}
}

func (p *person) setValue(v *viewer, room string) {
	msg, what := p.value(p.random)
	if v.Send(context.Background(), realtime.ToRoom(room), msg) == nil {
		p.count(what)
	}
}

// value returns a value, or the removal of one.
func (s *crowd) value(random *rand.Rand) (msg realtime.Message, what string) {
	msg = realtime.Message{Type: "shape", Latest: fmt.Sprint("k", random.IntN(crowdKeys)), Content: s.next()}
	if random.IntN(3) == 0 {
		msg.Content = json.RawMessage("null")
		return msg, "removal"
	}
	return msg, "value"
}

// run lets everybody live for a time, while the application and the network do their part.
func (s *crowd) run(d time.Duration) {
	for _, p := range s.people {
		p.acting.Go(p.live)
	}
	for end := time.Now().Add(d); time.Now().Before(end); {
		for range s.random.IntN(5) { // sometimes several at the same time
			s.disturb(s.people[s.random.IntN(len(s.people))])
		}
		time.Sleep(time.Duration(s.random.Int64N(int64(8*time.Second) / int64(len(s.people)))))
		s.doLater(time.Now())
	}
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	for len(s.later) > 0 {
		time.Sleep(10 * time.Millisecond)
		s.doLater(time.Now())
	}
	for _, p := range s.people {
		p.current().Reconnect()
		p.acting.Wait()
	}
}

// after makes run do something later.
func (s *crowd) after(d time.Duration, do func()) {
	s.later = append(s.later, laterAction{time.Now().Add(d), do})
}

// doLater does what is due.
func (s *crowd) doLater(now time.Time) {
	all := s.later
	s.later = nil
	for _, l := range all {
		if l.at.After(now) {
			s.later = append(s.later, l)
		} else {
			l.do()
		}
	}
}

// disturb does one thing at random to a person.
func (s *crowd) disturb(p *person) {
	ctx, rt := context.Background(), s.w.rt
	room := rt.Room(crowdRooms[s.random.IntN(len(crowdRooms))])
	switch k := s.random.IntN(100); {
	case k < 25:
		s.interrupt(p)
	case k < 45:
		s.setValues(room)
	case k < 75:
		s.touch(p)
	case p.user == "":
	case k < 79:
		if n, _ := room.Remove(ctx, p.user); n > 0 {
			s.kicked("removed", p, room.Name())
		}
	case k < 83:
		if n, _ := room.Deny(ctx, p.user, 700*time.Millisecond); n > 0 {
			s.kicked("denied", p, room.Name())
		}
	case k < 86:
		s.disconnect(p, "disconnected", 4100) // the client reconnects
	case k < 88:
		s.disconnect(p, "stopped", realtime.CloseNormal)
	}
}

// setValues sets or removes a value. Sometimes there are so many changes that the server forgets the
// earlier ones: then clients that are away must learn which keys exist.
func (s *crowd) setValues(room realtime.Room) {
	changes := 1
	if s.random.IntN(5) == 0 {
		s.count("burst")
		changes = crowdBurst
	}
	for range changes {
		msg, what := s.value(s.random)
		_, err := s.w.rt.Send(context.Background(), realtime.ToRoom(room.Name()), msg)
		require.NoError(s.w.t, err)
		s.count(what)
	}
}

// touch changes something of the connection of a person.
func (s *crowd) touch(p *person) {
	ctx, v := context.Background(), p.current()
	for c := range s.w.rt.LocalConns() {
		if c.Identity().Data != v.name {
			continue
		}
		switch k := s.random.IntN(10); {
		case k < 3:
			if joined, _ := c.Join(ctx, "hall"); joined {
				s.count("added")
			}
		case k < 5:
			s.count("info")
			_ = c.SetInfo(map[string]any{"n": p.n, "more": s.random.IntN(1000)})
		default:
			msg, what := s.value(s.random)
			if res, err := s.w.rt.Send(ctx, realtime.ToConn(c.ID()), msg); err == nil && res.Matched == 1 {
				s.count(strings.NewReplacer("removal", "removal of a connection's value",
					"value", "value of a connection").Replace(what))
				v.expect(msg)
			}
		}
		return
	}
}

// interrupt ends the connection of a person, for a time for which the session may be kept. Before that,
// everything on the way may be lost.
func (s *crowd) interrupt(p *person) {
	if p.interrupted {
		return
	}
	p.interrupted = true
	wait, out := time.Duration(0), time.Duration(s.random.Int64N(int64(4*time.Second)))
	what := "cut"
	if s.random.IntN(3) == 0 {
		what, wait = "loss", time.Duration(s.random.Int64N(int64(time.Second)))
		p.line.lose()
	}
	long := s.random.IntN(4) == 0
	if long {
		what, out = "long cut", out+crowdGrace
	}
	s.count(what)
	s.after(wait, func() {
		p.line.setUp(false)
		p.line.cut()
		if long {
			time.Sleep(time.Millisecond) // the server knows it then
			p.current().forgetDue()
		}
		s.after(out, func() {
			p.interrupted = false
			p.line.setUp(true)
			p.current().Reconnect()
		})
	})
}

// kicked notes that a user was removed from a room.
func (s *crowd) kicked(what string, p *person, room string) {
	s.count(what)
	time.Sleep(time.Millisecond) // the clients that have a connection know it then
	for _, other := range s.people {
		if other.user == p.user {
			other.current().forgetRoom(room)
		}
	}
}

func (s *crowd) disconnect(p *person, what string, code realtime.CloseCode) {
	n, _ := s.w.rt.User(p.user).Disconnect(context.Background(), code, "")
	if n > 0 {
		s.count(what)
	}
	for _, other := range s.people {
		if other.user == p.user {
			other.current().forgetDue()
		}
	}
}

// settle waits a second.
func (s *crowd) settle() {
	for _, p := range s.people {
		p.current().Reconnect()
	}
	time.Sleep(time.Second)
	synctest.Wait()
}

// check compares what each client knows with what the server shows. later is true when no session is
// detached any more.
func (s *crowd) check(later bool) {
	t := s.w.t
	for _, name := range crowdRooms {
		room := s.w.rt.Room(name)
		want, err := room.Members(t.Context())
		require.NoError(t, err)
		count, err := room.Count(t.Context())
		require.NoError(t, err)
		watchers := 0
		for _, p := range s.people {
			now, ok := p.view.Presence(name)
			if !ok {
				continue
			}
			watchers++
			who := fmt.Sprintf("%s in %s", p.view.name, name)
			require.Equal(t, count, realtime.Count{Users: now.UserCount, Conns: now.ConnCount}, who)
			requireSameMembers(t, want, now.Members, later, who)
			p.view.check(name, now, who)
		}
		t.Logf("%s: %d members, %d watchers", name, len(want), watchers)
		require.False(t, later && name == "lobby" && watchers < len(s.people)/8, "a room is empty")
	}
}

// requireSameMembers compares the members that a client knows with those of the server.
func requireSameMembers(t *testing.T, want []realtime.Member, got []client.Member, later bool, who string) {
	t.Helper()
	require.Equal(t, len(want), len(got), who)
	for i, w := range want {
		g := got[i]
		require.Equal(t, []string{w.Key, w.User, string(w.Info), string(w.State)},
			[]string{g.Key, g.User, string(g.Info), string(g.State)}, who)
		if later {
			require.False(t, w.Away || g.Away, who)
		}
		require.False(t, g.Away && !w.Away, who) // clients are told later
	}
}

// checkValues compares the values that each client has been given with those that a new client gets.
func (s *crowd) checkValues() {
	t := s.w.t
	p := &person{crowd: s, n: len(s.people), user: "fresh"}
	p.line = &personLine{network: s.w.memoryNetwork}
	p.dial()
	fresh := p.view
	for _, room := range crowdRooms {
		require.NoError(t, fresh.Join(t.Context(), room))
	}
	time.Sleep(time.Second)
	synctest.Wait()
	values := 0
	for _, room := range crowdRooms {
		want := fresh.rooms[room].values
		values += len(want)
		members, err := s.w.rt.Room(room).Members(t.Context())
		require.NoError(t, err)
		for _, p := range s.people {
			is := func(m realtime.Member) bool { return !m.Away && numberOf(m.Info) == p.n }
			if slices.ContainsFunc(members, is) {
				p.view.checkValues(room, want)
			}
		}
	}
	require.Positive(t, values)
	for _, p := range s.people {
		for key, want := range p.view.due {
			require.Equal(t, want, p.view.given[key], "%s, value %s of the connection", p.view.name, key)
		}
	}
	fresh.close()
	time.Sleep(time.Second)
}

// numberOf returns the number of the person with this info.
func numberOf(info json.RawMessage) int {
	var is struct{ N *int }
	if json.Unmarshal(info, &is) != nil || is.N == nil {
		return -1
	}
	return *is.N
}

// personLine is the network of one person.
type personLine struct {
	network *memoryNetwork

	mu    sync.Mutex
	down  bool
	conns []*personConn
}

// personConn is a connection of a person.
type personConn struct {
	net.Conn
	line *personLine
	lost bool // everything is lost; guarded by line.mu
}

var errLineDown = errors.New("the line is down")

// client returns an http.Client that uses the line.
func (l *personLine) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: l.dial}}
}

func (l *personLine) isDown() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.down
}

func (l *personLine) awaitUp() {
	for l.isDown() {
		time.Sleep(100 * time.Millisecond)
	}
}

func (l *personLine) setUp(up bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = !up
}

func (l *personLine) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if l.isDown() {
		return nil, errLineDown
	}
	c, err := l.network.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	own := &personConn{Conn: c, line: l}
	l.conns = append(l.conns, own)
	return own, nil
}

// cut ends the connections without a closing handshake.
func (l *personLine) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		_ = c.Close()
	}
	l.conns = nil
}

// lose loses everything on the way, until the connections are cut.
func (l *personLine) lose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.lost = true
	}
}

func (c *personConn) isLost() bool {
	c.line.mu.Lock()
	defer c.line.mu.Unlock()
	return c.lost
}

// Read implements net.Conn.
func (c *personConn) Read(p []byte) (int, error) {
	for {
		if n, err := c.Conn.Read(p); err != nil || !c.isLost() {
			return n, err
		}
	}
}

// Write implements net.Conn.
func (c *personConn) Write(p []byte) (int, error) {
	if c.isLost() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}
