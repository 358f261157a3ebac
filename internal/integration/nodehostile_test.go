package integration_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker"
)

// envelope returns what a node with the id "strang" sends: of kind 1 a message, of kind 6 its part.
func envelope(kind byte, data string) []byte {
	return append([]byte{1, kind}, "strang\x00"+data...)
}

// stranger is somebody who can write to the engine.
func (ns *nodes) stranger(sink broker.Sink) *strangerBus {
	bus := &strangerBus{Bus: ns.engine.Broker(), t: ns.t}
	require.NoError(ns.t, bus.Open(ns.t.Context(), sink))
	ns.t.Cleanup(func() { _ = bus.Close(ns.t.Context()) })
	synctest.Wait()
	return bus
}

type strangerBus struct {
	broker.Bus
	t *testing.T
}

// publishes sends a publication to all nodes, past every check.
func (b *strangerBus) publishes(p broker.Publication) {
	b.t.Helper()
	data, err := p.AppendBinary(nil)
	require.NoError(b.t, err)
	_, err = b.Send(b.t.Context(), envelope(1, string(data)), "all")
	require.NoError(b.t, err)
	synctest.Wait()
}

// sizes is the Sink of somebody who looks how large the messages are.
type sizes struct {
	nobody
	got *[]int
}

func (s sizes) Receive(_ string, data []byte) { *s.got = append(*s.got, len(data)) }

// JSON keeps its size on its way to other nodes: what is within the limits here is so there. One member
// that is not valid does not hide the others.
func TestNodesPassOnLargeStates(t *testing.T) {
	cluster(t, 2, shared(), func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		watcher := two.openV1(realtime.Identity{UserID: "watcher"})
		f := two.watch(watcher, "hall", "")
		wide := one.page("wide", "k1")
		wide.say(`{"type":"join","id":1,"room":"hall","state":"%s"}`, strings.Repeat("<&\u2028", 200))
		for i := range 3 {
			one.page(fmt.Sprint("user", i), fmt.Sprint("key", i)).say(`{"type":"join","id":1,"room":"hall"}`)
		}
		time.Sleep(time.Second)
		f.see(watcher).same(one.Manager)
		require.Len(t, f.entries, 5)

		bus := ns.stranger(nobody{})
		_, err := bus.Send(t.Context(), envelope(6,
			`{"room":"hall","ver":1,"users":2,"conns":2,"members":{"a":{"user":"good"},"b":{"user":"all"},"":{"user":"x"}}}`),
			broker.RoomStream("hall"))
		require.NoError(t, err)
		time.Sleep(time.Second)
		f.see(watcher)
		require.Contains(t, f.entries, "a")
		require.NotContains(t, f.entries, "b")
		require.NotZero(t, two.Stats().Failed)
	})
}

func TestNodesTakeTicketsOfAllIdentities(t *testing.T) {
	cluster(t, 2, realtime.Options{}, func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		synctest.Wait()
		for _, id := range []realtime.Identity{
			{UserID: "alice", Info: json.RawMessage(`"` + strings.Repeat("<", 1000) + `"`)},
			{UserID: "alice", ExpiresAt: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
			{UserID: "<alice>&", Data: json.RawMessage(`"<"`)},
		} {
			for _, at := range []*bed{one, two} {
				ticket, err := one.IssueTicket(id)
				require.NoError(t, err)
				w := httptest.NewRecorder()
				at.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://site.example/ws?ticket="+ticket, nil))
				require.Equal(t, http.StatusUpgradeRequired, w.Code, w.Body)
			}
		}
	})
}

// What is no ticket is not sent to another node.
func TestNodesAreNotAskedForNonsense(t *testing.T) {
	cluster(t, 1, realtime.Options{}, func(t *testing.T, ns *nodes) {
		var got []int
		bus := ns.stranger(sizes{got: &got})
		require.NoError(t, bus.Listen(t.Context(), "node/737472616e67"))
		for _, ticket := range []string{
			strings.Repeat("%01", 300_000), strings.Repeat("A", 25), strings.Repeat("a", 26), "",
		} {
			w := httptest.NewRecorder()
			ns.beds[0].ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://site.example/ws?ticket=737472616e67"+ticket, nil))
			require.Equal(t, http.StatusUnauthorized, w.Code)
		}
		synctest.Wait()
		require.Empty(t, got)
	})
}

// Values and users that no client can send are not taken from the engine either.
func TestNodesCheckValuesAndUsers(t *testing.T) {
	cluster(t, 2, realtime.Options{AnnounceUsers: true}, func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		alice, bob := one.open("alice"), two.open("bob")
		one.join("hall", alice)
		two.join("hall", bob)
		bus := ns.stranger(nobody{})
		value := broker.Message{Type: "x", Latest: "k", Content: json.RawMessage("0")}
		for _, to := range []broker.Target{
			{Rooms: []string{""}}, {Conns: []string{""}}, {Users: []string{"all"}}, {Rooms: []string{"a\x00"}},
		} {
			bus.publishes(broker.Publication{Target: to, Message: value})
		}
		bus.publishes(broker.Publication{
			Target: broker.Target{Rooms: []string{"hall"}}, Message: value,
			Position: broker.Position{Epoch: "zz", Offset: math.MaxUint64},
		})
		one.mustValue(realtime.ToRoom("hall"), "k", "1")
		time.Sleep(time.Second)
		for _, b := range ns.beds {
			values, err := b.Room("hall").Latest(t.Context())
			require.NoError(t, err)
			require.Len(t, values, 1)
			require.JSONEq(t, `1`, string(values[0].Content))
		}
		alice.discard()
		_, err := bus.Send(t.Context(), envelope(6,
			`{"room":"","ver":1,"users":1,"conns":1,"members":{"k":{},"x":{"user":"y"}}}`), broker.RoomStream(""))
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.Empty(t, alice.got())
	})
}

// Nodes have the same values although each has set the last one that there was place for, and although
// one was short of memory for a time.
func TestNodesAgreeOnManyValues(t *testing.T) {
	cluster(t, 2, realtime.Options{}, func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		alice, bob := one.openV1(realtime.Identity{UserID: "alice"}), two.openV1(realtime.Identity{UserID: "bob"})
		one.join("hall", alice)
		two.join("hall", bob)
		both := func(want int) {
			t.Helper()
			time.Sleep(10 * time.Second)
			a, err := one.Room("hall").Latest(t.Context())
			require.NoError(t, err)
			b, err := two.Room("hall").Latest(t.Context())
			require.NoError(t, err)
			require.Len(t, a, want)
			require.Equal(t, keysOf(a), keysOf(b))
		}
		for i := range 999 {
			one.mustValue(realtime.ToRoom("hall"), fmt.Sprint("k", i), "1")
		}
		ns.engine.Cut(ns.buses[1], true)
		one.mustValue(realtime.ToRoom("hall"), "one", "1")
		two.mustValue(realtime.ToRoom("hall"), "two", "1")
		ns.engine.Cut(ns.buses[1], false)
		both(1001)
		_, err := one.value(realtime.ToRoom("hall"), "three", "1")
		require.ErrorIs(t, err, realtime.ErrFull)
	})
	o := realtime.Options{Limits: realtime.Limits{MemoryBytes: 8 << 20}}
	cluster(t, 2, o, func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		alice, bob := one.openV1(realtime.Identity{UserID: "alice"}), two.openV1(realtime.Identity{UserID: "bob"})
		one.join("hall", alice)
		two.join("hall", bob)
		one.mustValue(realtime.ToRoom("hall"), "shape", "1")
		other := two.openV1(realtime.Identity{UserID: "other"})
		for _, room := range []string{"mine", "mine2", "mine3"} { // on one node only
			two.joinAll(other, room)
			for _, size := range []int{100_000, 10_000, 1} {
				two.fillState(room, size)
			}
		}
		one.mustValue(realtime.ToRoom("hall"), "shape", `"`+strings.Repeat("y", 5000)+`"`)
		one.mustValue(realtime.ToRoom("hall"), "other", `"new"`)
		time.Sleep(10 * time.Second)
		values, err := two.Room("hall").Latest(t.Context())
		require.NoError(t, err)
		require.Len(t, values, 1, "memory is short")
		_ = other.conn.Close(realtime.CloseRefused, "")
		time.Sleep(10 * time.Second)
		values, err = two.Room("hall").Latest(t.Context())
		require.NoError(t, err)
		require.Len(t, values, 2)
		require.Len(t, values[1].Content, 5002)
	})
}

func keysOf(values []realtime.Message) (keys []string) {
	for _, v := range values {
		keys = append(keys, v.Latest)
	}
	return keys
}
