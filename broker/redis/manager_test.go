package redis_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker/redis"
	"github.com/realtime-go/realtime/client"
	"github.com/realtime-go/realtime/realtimetest"
)

// managers returns two nodes on a server. Rooms whose names begin with "kept" keep messages, and
// all show their members.
func managers(t *testing.T, s *server) (nodes [2]*realtimetest.Server) {
	t.Helper()
	for i := range nodes {
		b, err := redis.New(s.options())
		require.NoError(t, err)
		nodes[i] = realtimetest.New(t, &realtime.Options{
			Broker: b, Authorize: realtime.InsecureAllowAll, Show: realtime.ShowMembers,
			AnnounceUsers: true, Logger: slog.New(slog.DiscardHandler),
			Room: func(name string) realtime.RoomOptions {
				if strings.HasPrefix(name, "kept") {
					return realtime.RoomOptions{History: realtime.Retention{Messages: 1000}}
				}
				return realtime.RoomOptions{}
			},
		})
	}
	return nodes
}

func news(content string) realtime.Message {
	data, _ := json.Marshal(content)
	return realtime.Message{Type: "news", Content: data}
}

// next returns the next n news of a client.
func next(c *realtimetest.Client, n int) (got []string) {
	for range n {
		got = append(got, realtimetest.Expect[string](c, "news"))
	}
	return got
}

// What is not kept arrives at each receiver of each node, once.
func TestManagersExchangeMessages(t *testing.T) {
	nodes := managers(t, start(t))
	alice, bob, carol := nodes[0].Connect("alice"), nodes[1].Connect("bob"), nodes[1].Connect("carol")
	alice.Join("lobby")
	bob.Join("lobby")
	all := []*realtimetest.Client{alice, bob, carol}
	for i, test := range []struct {
		to    realtime.Target
		got   []*realtimetest.Client
		nodes int
	}{
		{realtime.ToAll(), all, 1},
		{realtime.ToRoom("lobby"), all[:2], 1},
		{realtime.ToUser("carol"), all[2:], 1},
		{realtime.ToAll().ExceptUser("bob"), []*realtimetest.Client{alice, carol}, 1},
		{realtime.Target{Rooms: []string{"lobby"}, Users: []string{"bob", "carol"}}, all, 3},
		{realtime.ToRoom("nowhere"), nil, 0},
	} {
		res, err := nodes[0].Manager.Send(t.Context(), test.to, news(fmt.Sprint(i)))
		require.NoError(t, err)
		require.Equal(t, test.nodes, res.Nodes, "%+v", test.to)
		for _, c := range test.got {
			require.Equal(t, fmt.Sprint(i), realtimetest.Expect[string](c, "news"))
		}
	}
	for _, c := range all {
		c.ExpectNone("news")
	}
}

// A room that keeps messages has them in one order at both nodes.
func TestManagersShareHistory(t *testing.T) {
	nodes := managers(t, start(t))
	alice, bob := nodes[0].Connect("alice"), nodes[1].Connect("bob")
	alice.Join("kept")
	bob.Join("kept")
	const each = 50
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(func() {
			for k := range each {
				if _, err := n.Manager.Send(t.Context(), realtime.ToRoom("kept"),
					news(fmt.Sprint(i, " ", k))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	got := next(alice, 2*each)
	require.Equal(t, got, next(bob, 2*each))
	page, err := nodes[1].Manager.Room("kept").History(t.Context(), realtime.HistoryQuery{Limit: 1000})
	require.NoError(t, err)
	require.Len(t, page.Messages, 2*each)
	carol := nodes[1].Connect("carol")
	require.NoError(t, carol.JoinWith(t.Context(), "kept", client.JoinOptions{
		From: realtime.From{Since: page.Messages[9].Position},
	}))
	require.Equal(t, got[10:], next(carol, 2*each-10))
}

// A message to several rooms and a user arrives once at each connection of each node, although two
// of the rooms keep it.
func TestManagersGiveUnionsOnce(t *testing.T) {
	nodes := managers(t, start(t))
	var all []*realtimetest.Client
	for _, n := range nodes {
		for _, user := range []string{"alice", "bob"} {
			c := n.Connect(user)
			c.Join("kept", "kept too", "plain", "other")
			all = append(all, c)
		}
	}
	to := realtime.Target{
		Rooms: []string{"kept", "plain", "other", "kept too"}, Users: []string{"alice"},
	}
	const times = 20
	for i := range times {
		_, err := nodes[i%2].Manager.Send(t.Context(), to, news(fmt.Sprint(i)))
		require.NoError(t, err)
	}
	var want []string
	for i := range times {
		want = append(want, fmt.Sprint(i))
	}
	// What follows in each room comes after all copies.
	for _, room := range to.Rooms {
		_, err := nodes[0].Manager.Send(t.Context(), realtime.ToRoom(room), news("end"))
		require.NoError(t, err)
		_, err = nodes[1].Manager.Send(t.Context(), realtime.ToRoom(room), news("end"))
		require.NoError(t, err)
		want = append(want, "end", "end")
	}
	for _, c := range all {
		require.ElementsMatch(t, want, next(c, len(want)))
		c.ExpectNone("news")
	}
}

// Deny is in force at both nodes when it returns.
func TestManagersDeny(t *testing.T) {
	nodes := managers(t, start(t))
	nodes[0].Connect("alice") // so the node is ready to get answers
	bob := nodes[1].Connect("bob")
	bob.Join("lobby")
	n, err := nodes[0].Manager.Room("lobby").Deny(t.Context(), "bob", time.Hour)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, "lobby", bob.ExpectRoomLost().Room)
	require.Error(t, bob.Client.Join(t.Context(), "lobby"))
	n, err = nodes[0].Manager.User("bob").Deny(t.Context(), time.Hour)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Error(t, bob.ExpectEnd())
	for _, n := range nodes {
		end, far := realtime.Pipe()
		_, err := n.Manager.Register(t.Context(), end, realtime.Identity{UserID: "bob"})
		require.ErrorIs(t, err, realtime.ErrDenied)
		far.Drop()
	}
}

// users returns the users that are not away.
func users(now client.Presence) (names []string) {
	for _, m := range now.Members {
		if !m.Away {
			names = append(names, m.User)
		}
	}
	return names
}

// has reports what a room must show: these users, of whom none is away.
func has(want ...string) func(client.Presence) bool {
	return func(now client.Presence) bool {
		return len(now.Members) == len(want) && slices.Equal(users(now), want)
	}
}

// Users who come and go are announced at both nodes, and tickets are valid at both.
func TestManagersAnnounceUsers(t *testing.T) {
	nodes := managers(t, start(t))
	alice := nodes[0].Connect("alice")
	bob, bob2 := nodes[1].Connect("bob"), nodes[0].Connect("bob")
	type notice struct {
		User string `json:"user_id"`
	}
	require.Equal(t, "bob", realtimetest.Expect[notice](alice, "userjoined").User)
	require.NoError(t, bob.Close())
	require.NoError(t, bob2.Close())
	require.Equal(t, "bob", realtimetest.Expect[notice](alice, "userleft").User)
	alice.ExpectNone("userjoined")

	ticket, err := nodes[0].Manager.IssueTicket(realtime.Identity{UserID: "carol"})
	require.NoError(t, err)
	for _, status := range []int{http.StatusUpgradeRequired, http.StatusUnauthorized} {
		w := httptest.NewRecorder()
		nodes[1].Manager.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://site.example/ws?ticket="+ticket, nil))
		require.Equal(t, status, w.Code)
	}
}

// Both nodes show the members of both.
func TestManagersShareMembers(t *testing.T) {
	nodes := managers(t, start(t))
	watch := func(n *realtimetest.Server, user string) *realtimetest.Client {
		c := n.Connect(user)
		require.NoError(t, c.JoinWith(t.Context(), "lobby", client.JoinOptions{Presence: true, State: 1}))
		return c
	}
	alice, bob := watch(nodes[0], "alice"), watch(nodes[1], "bob")
	for _, c := range []*realtimetest.Client{alice, bob} {
		c.ExpectPresence("lobby", has("alice", "bob"))
	}
	require.NoError(t, bob.SetState("lobby", 2))
	alice.ExpectPresence("lobby", func(now client.Presence) bool {
		return has("alice", "bob")(now) && string(now.Members[1].State) == "2"
	})
	require.NoError(t, bob.Leave(t.Context(), "lobby"))
	alice.ExpectPresence("lobby", has("alice"))
}

// balancer passes requests on to one of two nodes, and can end their connections. While there is no
// node, requests wait.
type balancer struct {
	nodes [2]*realtimetest.Server

	mu    sync.Mutex
	at    int // negative: to none
	moved chan struct{}
	conns []net.Conn
}

func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	at, moved := b.at, b.moved
	b.mu.Unlock()
	if at < 0 {
		<-moved
		b.ServeHTTP(w, r)
		return
	}
	b.nodes[at].Manager.ServeHTTP(balanced{w, b}, r)
}

// move sends all further requests to another node. It ends the connections if there is none.
func (b *balancer) move(at int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at = at; at >= 0 {
		close(b.moved)
	} else {
		b.moved = make(chan struct{})
		for _, c := range b.conns {
			_ = c.Close()
		}
	}
}

type balanced struct {
	http.ResponseWriter
	b *balancer
}

// Hijack implements [http.Hijacker].
func (w balanced) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	w.b.conns = append(w.b.conns, c)
	return c, rw, err
}

// A client that reconnects to the other node has not left: it keeps its key, and misses nothing that
// is kept.
func TestManagersHandOverClient(t *testing.T) {
	nodes := managers(t, start(t))
	b := &balancer{nodes: nodes}
	watcher := nodes[1].Connect("watcher")
	require.NoError(t, watcher.JoinWith(t.Context(), "kept", client.JoinOptions{Presence: true}))
	page := realtimetest.Serve(t, b).Dial("/?user_id=page&presence_key=key1", nil)
	require.NoError(t, page.JoinWith(t.Context(), "kept", client.JoinOptions{Presence: true, State: 1}))
	now := watcher.ExpectPresence("kept", has("page", "watcher"))
	require.Equal(t, "key1", now.Members[0].Key)
	b.move(-1)
	watcher.ExpectPresence("kept", func(now client.Presence) bool { // the first node knows
		return len(now.Members) == 2 && now.Members[0].Away
	})
	_, err := nodes[1].Manager.Send(t.Context(), realtime.ToRoom("kept"), news("missed"))
	require.NoError(t, err)
	b.move(1)
	require.Equal(t, "missed", realtimetest.Expect[string](page, "news"))
	require.Eventually(t, func() bool { return nodes[0].Manager.Stats().Rooms == 0 }, 10*time.Second,
		5*time.Millisecond, "the first node has given it up")
	now = watcher.ExpectPresence("kept", has("page", "watcher"))
	require.Equal(t, "key1", now.Members[0].Key)
}
