package integration_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// page is a page in a browser: a client of realtime.v1 whose handshake has a presence key. A
// goroutine reads what it receives.
type page struct {
	t    *testing.T
	nc   net.Conn
	conn *realtime.Conn // nil if the server has refused it

	mu      sync.Mutex
	frames  []string
	welcome struct {
		Content struct {
			Conn    string `json:"connection_id"`
			Session string `json:"session"`
		}
	}
}

// pageRequest is the handshake of a page. Without a user it is anonymous, and a key may be empty.
func pageRequest(user, key string) *http.Request {
	r := upgradeRequest(false)
	q := url.Values{"protocol": {realtime.V1}}
	if user != "" {
		q.Set("user_id", user)
	}
	if key != "" {
		q.Set("presence_key", key)
	}
	r.URL.RawQuery = q.Encode()
	return r
}

// plainRequest is the handshake of a plain client with a presence key, which means nothing.
func plainRequest(user, key string) *http.Request {
	r := pageRequest(user, key)
	q := r.URL.Query()
	q.Del("protocol")
	r.URL.RawQuery = q.Encode()
	return r
}

// page opens a page. The Manager must have InsecureQueryUser.
func (b *bed) page(user, key string) *page {
	b.t.Helper()
	return b.opened(pageRequest(user, key))
}

// opened waits until the page of a handshake is open.
func (b *bed) opened(r *http.Request) *page {
	b.t.Helper()
	p := b.load(r)
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn = b.Conn(p.welcome.Content.Conn)
	return p
}

// load sends the handshake of a page.
func (b *bed) load(r *http.Request) *page {
	near, far := net.Pipe()
	p := &page{t: b.t, nc: far}
	go func() {
		answer := httptest.NewRecorder()
		b.ServeHTTP(hijackable{answer, near, ""}, r)
		if answer.Code != http.StatusOK { // it was refused, and not hijacked
			_ = near.Close()
		}
	}()
	opened := make(chan struct{})
	go p.read(opened)
	b.t.Cleanup(func() { _ = far.Close() })
	<-opened
	return p
}

// read reads until the connection ends. It closes opened when the welcome was read.
func (p *page) read(opened chan<- struct{}) {
	br := bufio.NewReader(p.nc)
	_, err := http.ReadResponse(br, nil)
	for first := true; ; first = false {
		var op byte
		var frame string
		if err == nil {
			op, frame, err = nextFrame(br)
		}
		p.mu.Lock()
		switch {
		case err != nil || op == opClose:
			_ = p.nc.Close()
		case op&0xf == opPing:
			go func() { _, _ = io.WriteString(p.nc, masked(fin|opPong, frame)) }()
		case first:
			err = json.Unmarshal([]byte(frame), &p.welcome)
		default:
			p.frames = append(p.frames, frame)
		}
		p.mu.Unlock()
		if first {
			close(opened)
		}
		if err != nil || op == opClose {
			return
		}
	}
}

// request sends a request and returns the frames that follow.
func (p *page) request(request string) []string {
	p.t.Helper()
	_, err := io.WriteString(p.nc, masked(fin|opText, request))
	require.NoError(p.t, err)
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	frames := p.frames
	p.frames = nil
	return frames
}

func (p *page) join(room string) []string {
	p.t.Helper()
	return p.request(fmt.Sprintf(`{"type":"join","id":1,"room":%q}`, room))
}

// leave closes the page, as its browser does: also if the user reloads it.
func (p *page) leave() {
	_, _ = io.WriteString(p.nc, masked(fin|opClose, codeOf(1001)))
	synctest.Wait()
}

// reloading returns Options for pages, with all notices and a diary of room events.
func reloading(events *diary) realtime.Options {
	o := announced()
	o.Authenticate = realtime.InsecureQueryUser
	o.OnRoom = func(_ context.Context, e realtime.RoomEvent) {
		line := eventLine(e)
		if e.Was != nil {
			line += " was " + e.Was.UserID()
		}
		if e.Why != nil && e.Why.Grace > 0 {
			line += fmt.Sprint(" for ", e.Why.Grace)
		}
		events.write(line)
	}
	return o
}

func TestReload(t *testing.T) {
	var events, ends diary
	o := reloading(&events)
	o.OnDisconnect = func(_ context.Context, _ *realtime.Conn, why *realtime.CloseError) {
		ends.write(fmt.Sprint(why.Code, " ", why.Grace))
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		watcher := b.open("watcher")
		b.join("lobby", watcher)
		alice := b.page("alice", "k")
		alice.join("lobby")
		_, err := alice.conn.Join(t.Context(), "vip")
		require.NoError(t, err)
		watcher.discard()
		events.read()

		alice.leave()
		require.Equal(t, []string{
			"alice away lobby, user away, client 2/2 for 5s", "alice away vip, user away, client 1/1 for 5s",
		}, inOrder(events.read()))
		require.Equal(t, []string{"1001 5s"}, ends.read())
		time.Sleep(4 * time.Second)
		again := b.page("alice", "k")
		require.Equal(t, []string{`{"message_type":"reply","id":1,"content":{"key":"k"}}`}, again.join("lobby"))
		require.Equal(t, []string{"alice back lobby, user back 2/2 was alice"}, events.read())
		require.Equal(t, []string{"lobby"}, again.conn.Rooms())
		require.Empty(t, watcher.got())
		require.Equal(t, 2, b.news(realtime.ToRoom("lobby"), "hi").Queued)

		time.Sleep(time.Minute)
		require.Equal(t, []string{"alice left vip, user left, emptied, client 0/0"}, events.read())
		require.Equal(t, []string{"alice", "watcher"}, b.members("lobby"))
		require.Equal(t, []string{`news "hi"`}, watcher.got())
		require.NoError(t, again.conn.Close(realtime.CloseNormal, ""))
		require.Equal(t, []string{"alice out lobby", "alice left"}, watcher.got())
		require.Equal(t, []string{"alice left lobby, user left, server 1/1"}, events.read())
	})
}

// A page that is closed for good leaves after a third of the time of a session. Until then its token
// can be resumed, as that of a lost connection.
func TestPageThatIsClosed(t *testing.T) {
	var events diary
	bubble(t, reloading(&events), func(t *testing.T, b *bed) {
		for _, resumes := range []bool{false, true} {
			alice := b.page("alice", "")
			alice.join("lobby")
			events.read()
			alice.leave()
			time.Sleep(4900 * time.Millisecond)
			require.Equal(t, []string{"alice away lobby, user away, client 1/1 for 5s"}, events.read())
			resume := fmt.Sprintf(`{"type":"resume","id":1,"session":%q}`, alice.welcome.Content.Session)
			if resumes {
				again := b.page("alice", "other")
				require.Equal(t, []string{rooms("lobby")}, again.request(resume))
				require.Equal(t, []string{"alice back lobby, user back 1/1 was alice"}, events.read())
				time.Sleep(time.Minute)
				require.Empty(t, events.read())
				continue
			}
			time.Sleep(300 * time.Millisecond)
			require.Equal(t, []string{"alice left lobby, user left, emptied, client 0/0"}, events.read())
			require.Contains(t, b.page("alice", "").request(resume)[0], noSession)
		}
	})
}

// Only the same user with the same key continues a membership, and only one that is detached.
func TestReloadOfSomebodyElse(t *testing.T) {
	for name, test := range map[string]struct{ user, key, otherUser, otherKey string }{
		"other key":  {"alice", "k", "alice", "l"},
		"no key":     {"alice", "k", "alice", ""},
		"no keys":    {"alice", "", "alice", ""},
		"other user": {"alice", "k", "bob", "k"},
		"anonymous":  {"", "k", "", "k"},
		"user left":  {"", "k", "alice", "k"},
		"user came":  {"alice", "k", "", "k"},
	} {
		t.Run(name, func(t *testing.T) {
			var events diary
			bubble(t, reloading(&events), func(t *testing.T, b *bed) {
				first := b.page(test.user, test.key)
				first.join("lobby")
				first.leave()
				events.read()
				other := b.page(test.otherUser, test.otherKey)
				other.join("lobby")
				require.Contains(t, events.read()[0], test.otherUser+" joined lobby")
				time.Sleep(6 * time.Second)
				require.Contains(t, events.read()[0], test.user+" left lobby")
				count, err := b.Room("lobby").Count(t.Context())
				require.NoError(t, err)
				require.Equal(t, 1, count.Conns)
			})
		})
	}
}

// The copy of a tab has the same key. Each membership is continued once, the one detached last
// first, and never that of an open tab.
func TestReloadOfTabsWithOneKey(t *testing.T) {
	var events diary
	bubble(t, reloading(&events), func(t *testing.T, b *bed) {
		tab, double := b.page("alice", "k"), b.page("alice", "k")
		phone := b.page("alice", "")
		for _, p := range []*page{tab, double, phone} {
			p.join("lobby")
		}
		events.read()
		tab.leave()
		require.Equal(t, []string{"alice away lobby, client 1/3 for 5s"}, events.read())
		tab = b.page("alice", "k")
		tab.join("lobby")
		require.Equal(t, []string{"alice back lobby 1/3 was alice"}, events.read())

		first, second := tab.conn, double.conn
		tab.leave()
		double.leave()
		events.read()
		var now []*realtime.Conn
		for i := range 3 {
			p := b.page("alice", "k")
			p.join("lobby")
			now = append(now, p.conn)
			require.Equal(t, i == 0, first.In("lobby"))
			require.False(t, second.In("lobby"))
		}
		require.Equal(t, []string{
			"alice back lobby 1/3 was alice", "alice back lobby 1/3 was alice", "alice joined lobby 1/4",
		}, events.read())
		time.Sleep(time.Minute)
		require.Empty(t, events.read())
		require.ElementsMatch(t, append(now, phone.conn), b.connsOf("alice"))
	})
}

// A join by the application, before or after the page is open, and one by the REST interface
// continue a membership too. If OnConnect refuses, it stays with the session.
func TestReloadAndJoinsOfTheApplication(t *testing.T) {
	var events diary
	o := reloading(&events)
	refused := false
	o.OnConnect = func(ctx context.Context, c *realtime.Conn) error {
		for _, room := range []string{"attic", "cellar"} {
			if _, err := c.Join(ctx, room); err != nil {
				return err
			}
		}
		if refused {
			return errors.New("refused")
		}
		return nil
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.page("alice", "k")
		alice.join("lobby")
		alice.join("hall")
		alice.leave()
		events.read()

		refused = true
		require.Nil(t, b.page("alice", "k").conn)
		require.Empty(t, events.read())
		refused = false
		again := b.page("alice", "k")
		require.Equal(t, []string{
			"alice back attic, user back 1/1 was alice", "alice back cellar, user back 1/1 was alice",
		}, inOrder(events.read()))
		_, err := again.conn.Join(t.Context(), "lobby")
		require.NoError(t, err)
		rest := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "/connections/"+again.conn.ID()+"/join", strings.NewReader(`{"room_id":"hall"}`))
		b.API(realtime.InsecureAllowRequests).ServeHTTP(rest, r)
		require.Equal(t, 200, rest.Code)
		require.Equal(t, []string{
			"alice back hall, user back 1/1 was alice", "alice back lobby, user back 1/1 was alice",
		}, inOrder(events.read()))
		time.Sleep(time.Minute)
		require.Empty(t, events.read())

		// A connection without a key continues nothing, and neither does a plain one.
		again.leave()
		b.page("alice", "").leave()
		events.read()
		for _, r := range []*http.Request{pageRequest("alice", ""), plainRequest("alice", "k")} {
			other := b.opened(r)
			require.Equal(t, []string{"attic", "cellar"}, other.conn.Rooms())
			for _, line := range events.read() {
				require.Contains(t, line, "alice joined")
			}
		}
	})
}

// A session that is resumed over a newer connection makes no other one end.
func TestResumeWithAsManyConnectionsAsAllowed(t *testing.T) {
	var events diary
	o := reloading(&events)
	o.Limits.ConnsPerUser = 2
	bubble(t, o, func(t *testing.T, b *bed) {
		lost, old := b.page("alice", ""), b.page("alice", "")
		lost.join("attic")
		old.join("lobby")
		_ = lost.nc.Close()
		synctest.Wait()
		again := b.page("alice", "")
		require.Equal(t, []string{rooms("lobby")}, again.request(
			fmt.Sprintf(`{"type":"resume","id":1,"session":%q}`, old.welcome.Content.Session)))
		require.True(t, lost.conn.In("attic"))
		require.Equal(t, []string{rooms("lobby", "attic")}, again.request(
			fmt.Sprintf(`{"type":"resume","id":1,"session":%q}`, lost.welcome.Content.Session)))
	})
}

// inOrder sorts the events of several rooms, which have no order.
func inOrder(lines []string) []string {
	slices.Sort(lines)
	return lines
}

// What was taken from a user who is away is not continued.
func TestReloadAndRevocation(t *testing.T) {
	const joined = "alice joined lobby, opened, user joined 1/1"
	for name, test := range map[string]struct {
		revoke func(b *bed)
		want   []string
	}{
		"removed":      {func(b *bed) { _, _ = b.Room("lobby").Remove(b.t.Context(), "alice") }, []string{joined}},
		"left":         {func(b *bed) { _, _ = b.User("alice").Leave(b.t.Context(), "lobby") }, []string{joined}},
		"denied":       {func(b *bed) { _, _ = b.Room("lobby").Deny(b.t.Context(), "alice", time.Hour) }, nil},
		"disconnected": {func(b *bed) { _, _ = b.User("alice").Disconnect(b.t.Context(), 4403, "") }, []string{joined}},
		"denied then not": {func(b *bed) {
			_, _ = b.Room("lobby").Deny(b.t.Context(), "alice", time.Hour)
			_, _ = b.Room("lobby").Deny(b.t.Context(), "alice", 0)
		}, []string{joined}},
	} {
		t.Run(name, func(t *testing.T) {
			var events diary
			bubble(t, reloading(&events), func(t *testing.T, b *bed) {
				alice := b.page("alice", "k")
				alice.join("lobby")
				alice.leave()
				events.read()
				test.revoke(b)
				require.Len(t, events.read(), 1, "the member has left")
				again := b.page("alice", "k")
				again.join("lobby")
				require.Equal(t, test.want, events.read())
				time.Sleep(time.Minute)
				require.Empty(t, events.read())
				require.Len(t, b.members("lobby"), len(test.want))
			})
		})
	}
}

// A page that may not join the room again leaves the membership to the session, which ends.
func TestReloadIsAuthorizedAnew(t *testing.T) {
	var events diary
	o := reloading(&events)
	allowed := true
	o.Authorize = func(context.Context, *realtime.Conn, realtime.Action) error {
		if !allowed {
			return realtime.ErrForbidden
		}
		return nil
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.page("alice", "k")
		alice.join("lobby")
		alice.leave()
		events.read()
		allowed = false
		require.Contains(t, b.page("alice", "k").join("lobby")[0], "forbidden")
		require.Empty(t, events.read())
		time.Sleep(6 * time.Second)
		require.Equal(t, []string{"alice left lobby, user left, emptied, client 0/0"}, events.read())
	})
}

// A page in a loop of reloads has one membership, and a bounded number of sessions.
func TestReloadInALoop(t *testing.T) {
	for _, keys := range []int{1, 40} {
		var events diary
		o := reloading(&events)
		o.Limits.ConnsPerUser = 3
		bubble(t, o, func(t *testing.T, b *bed) {
			bob := b.page("bob", "k") // not affected
			bob.join("lobby")
			bob.leave()
			b.page("bob", "l")
			for i := range 40 {
				alice := b.page("alice", fmt.Sprint("k", i%keys))
				require.NotNil(t, alice.conn)
				alice.join("lobby")
				alice.leave()
				count, err := b.Room("lobby").Count(t.Context())
				require.NoError(t, err)
				require.Equal(t, min(i%keys+1, 3), count.Conns-1, "round %d", i)
			}
			time.Sleep(2 * time.Second)
			require.Equal(t, []string{"alice", "bob"}, b.members("lobby"))
			time.Sleep(4 * time.Second)
			require.Empty(t, b.members("lobby"))
			require.Equal(t, 1, b.Stats().Users)
		})
	}
}

// The oldest detached session of a user ends if another one is detached and the user has too many
// connections together with it. Without a limit, none does.
func TestDetachedSessionsCountAsConnections(t *testing.T) {
	for _, limit := range []int{3, -1} {
		var events diary
		o := reloading(&events)
		o.Limits.ConnsPerUser = limit
		bubble(t, o, func(t *testing.T, b *bed) {
			bob := b.page("bob", "") // not affected
			bob.join("lobby")
			_ = bob.nc.Close()
			visit := func() *page {
				alice := b.page("alice", "")
				alice.join("lobby")
				return alice
			}
			ended := func() (n int) {
				for _, line := range events.read() {
					if strings.Contains(line, "left") {
						n++
					}
				}
				return n
			}
			one := visit()
			visit()
			_ = one.nc.Close() // 1 is open, 1 detached
			require.Zero(t, ended())
			two := visit()
			visit()
			require.Zero(t, ended(), "3 are open, 1 detached: nobody is refused")
			want := 0
			if limit > 0 {
				want = 1
			}
			_ = two.nc.Close() // 2 are open, 2 detached
			require.Equal(t, want, ended())
			require.Equal(t, limit < 0, one.conn.In("lobby"), "the oldest ends")
			require.True(t, two.conn.In("lobby"))
			visit().leave()
			require.Equal(t, want, ended())
			require.Equal(t, limit < 0, two.conn.In("lobby"))
			time.Sleep(20 * time.Second)
			count, err := b.Room("lobby").Count(t.Context())
			require.NoError(t, err)
			require.Equal(t, 2, count.Conns)
		})
	}
}

// A reload beside the end of the session: the membership continues, or it has ended before.
func TestReloadAtTheEndOfTheSession(t *testing.T) {
	seen := map[string]int{}
	for i := range 60 {
		var events diary
		bubble(t, reloading(&events), func(t *testing.T, b *bed) {
			alice := b.page("alice", "k")
			alice.join("lobby")
			alice.leave()
			again := b.page("alice", "k")
			events.read()
			time.Sleep(4900*time.Millisecond + time.Duration(i%4)*50*time.Millisecond)
			if i%2 == 0 {
				_, err := io.WriteString(again.nc, masked(fin|opText, `{"type":"join","id":1,"room":"lobby"}`))
				require.NoError(t, err)
			} else {
				again.join("lobby")
			}
			time.Sleep(time.Second)
			lines := strings.Join(events.read(), "; ")
			seen[lines]++
			require.Contains(t, []string{
				"alice back lobby, user back 1/1 was alice",
				"alice left lobby, user left, emptied, client 0/0; alice joined lobby, opened, user joined 1/1",
			}, lines)
			require.Equal(t, []string{"lobby"}, again.conn.Rooms())
			count, err := b.Room("lobby").Count(t.Context())
			require.NoError(t, err)
			require.Equal(t, realtime.Count{Users: 1, Conns: 1}, count)
		})
	}
	require.Len(t, seen, 2)
}

// A room that keeps history recovers for a page that continues its membership, as for others.
func TestReloadAndRecover(t *testing.T) {
	o := keeping(100)
	o.Authenticate = realtime.InsecureQueryUser
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.page("alice", "k")
		r := &streamClient{t: t}
		r.receive(alice.join("hall"))
		b.sendWords(1, 3)
		r.receive(alice.request(`{"type":"ping"}`))
		require.Equal(t, words(1, 3), r.takeWords())
		alice.leave()
		b.sendWords(4, 6)
		again := b.page("alice", "k")
		r.receive(again.request(`{"type":"join","id":2,"room":"hall"` + since(r.at) + `}`))
		b.sendWords(7, 7)
		r.receive(again.request(`{"type":"ping"}`))
		require.Equal(t, words(4, 7), r.takeWords())
	})
}

// Shutdown ends detached sessions, and each member leaves once.
func TestShutdownDuringAReload(t *testing.T) {
	var events diary
	bubble(t, reloading(&events), func(t *testing.T, b *bed) {
		alice := b.page("alice", "k")
		alice.join("lobby")
		alice.join("hall")
		alice.leave()
		again := b.page("alice", "k")
		again.join("lobby")
		events.read()
		require.NoError(t, b.Shutdown(t.Context()))
		require.Equal(t, []string{
			"alice left hall, user left, emptied, client 0/0",
			"alice left lobby, user left, emptied, shutdown 0/0",
		}, inOrder(events.read()))
	})
}

// Pages are loaded, reloaded and lost, join and leave, resume sessions, and are removed, at random.
// The events of each room describe the same members as its count, and in the end none is left.
func TestReloadUnderStress(t *testing.T) {
	var events diary
	o := reloading(&events)
	o.Timeouts.Resume, o.Limits.ConnsPerUser = 3*time.Millisecond, 4
	b := newBed(t, o)
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			dice := rand.New(rand.NewPCG(uint64(n), 18))
			user, key := fmt.Sprint("u", n%2), fmt.Sprint("k", n%3)
			for range 60 {
				p := b.load(pageRequest(user, key))
				for _, room := range []string{"a", "b", "c"}[:dice.IntN(4)] {
					_, _ = io.WriteString(p.nc, masked(fin|opText, `{"type":"join","id":1,"room":"`+room+`"}`))
				}
				switch dice.IntN(4) {
				case 0:
					_ = p.nc.Close()
				case 1:
					_, _ = b.Room("a").Remove(t.Context(), user)
					_, _ = io.WriteString(p.nc, masked(fin|opClose, codeOf(1000)))
				default:
					_, _ = io.WriteString(p.nc, masked(fin|opClose, codeOf(1001)))
				}
			}
			_, _ = b.User(user).Disconnect(t.Context(), realtime.CloseRefused, "")
		})
	}
	all.Wait()
	require.NoError(t, b.Shutdown(t.Context()))
	requireConserved(t, b.Stats())
	requireAlternating(t, events.lines)
}

// requireAlternating checks the counts of events: those of one room change by one at most, and end
// with no member.
func requireAlternating(t *testing.T, lines []string) {
	t.Helper()
	conns := map[string]int{}
	for _, line := range lines {
		var user, kind, room string
		_, err := fmt.Sscan(strings.ReplaceAll(line, ",", " "), &user, &kind, &room)
		require.NoError(t, err, line)
		switch kind {
		case "joined":
			conns[room]++
		case "left":
			conns[room]--
		}
		require.Contains(t, line+" ", fmt.Sprintf("/%d ", conns[room]), line)
	}
	for room, n := range conns {
		require.Zero(t, n, room)
	}
}

// A presence key is a name of at most 32 bytes.
func TestPresenceKeys(t *testing.T) {
	bubble(t, realtime.Options{Authenticate: realtime.InsecureQueryUser}, func(t *testing.T, b *bed) {
		for key, status := range map[string]int{
			strings.Repeat("k", 33): 400, "\n": 400, " k": 400, "k\xff": 400,
			strings.Repeat("k", 32): 426, "k": 426, "": 426, "ä/&": 426,
		} {
			answer, r := httptest.NewRecorder(), pageRequest("alice", key)
			r.Header.Del("Upgrade") // a page asks why it was refused
			b.ServeHTTP(answer, r)
			require.Equal(t, status, answer.Code, "%q", key)
			if status == 400 {
				require.JSONEq(t, `{"error":"invalid presence_key: want a name of at most 32 bytes"}`, answer.Body.String())
			}
		}
		require.NotNil(t, b.page("alice", "ä/&").conn)
	})
}
