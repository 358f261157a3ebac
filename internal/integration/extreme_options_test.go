package integration_test

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// fill sets every number and duration of a struct, and of those in it, to n.
func fill(v reflect.Value, n int64) {
	for _, f := range v.Fields() {
		switch {
		case f.Kind() == reflect.Struct:
			fill(f, n)
		case f.CanInt():
			f.SetInt(n)
		}
	}
}

// largest is the last moment that a time.Time can be.
var largest = time.Unix(1<<63-62135596801, 999999999)

// TestLargestOptions has a conversation while every number and every duration is the largest that
// there is: none wraps, and nothing spins.
func TestLargestOptions(t *testing.T) {
	var o realtime.Options
	fill(reflect.ValueOf(&o).Elem(), math.MaxInt64)
	o.Slow, o.CompressFrom = realtime.SlowDisconnect, 0
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice", ExpiresAt: largest})
		bob := b.open("bob")
		b.join("lobby", alice, bob)
		alice.hush()
		bob.hush()
		msg := realtime.Message{Content: json.RawMessage(`"hi"`), TTL: math.MaxInt64}
		res, err := b.Send(t.Context(), realtime.ToRoom("lobby"), msg)
		require.NoError(t, err)
		require.Equal(t, 2, res.Queued)
		require.Len(t, alice.raw(), 1)
		require.Len(t, alice.asks(`{"type":"history","id":1,"room":"lobby","limit":9007199254740991}`), 1)
		require.Len(t, alice.asks(`{"type":"send","id":2,"room":"lobby","ttl_ms":9007199254740991}`), 2)
		require.NoError(t, alice.conn.Renew(realtime.Identity{UserID: "alice", ExpiresAt: largest}))
		time.Sleep(1000 * time.Hour)
		synctest.Wait()
		require.NoError(t, alice.conn.Context().Err())
		require.NoError(t, bob.conn.Context().Err())

		for _, how := range []time.Duration{math.MaxInt64, math.MaxInt64 - 1} {
			_, err = b.Room("lobby").Deny(t.Context(), "bob", how)
			require.NoError(t, err)
			_, err = b.Join(t.Context(), bob.conn.ID(), "lobby")
			require.ErrorIs(t, err, realtime.ErrDenied)
		}
		alice.Drop()
		time.Sleep(1000 * time.Hour)
		require.Contains(t, b.members("lobby"), "alice", "it may come back for as long as that")
	})
}

// TestSmallestOptions has a conversation while every number and every duration is the smallest that
// there is, which means off or the default, and while it is one. Nothing spins, and nothing panics.
func TestSmallestOptions(t *testing.T) {
	for _, n := range []int64{math.MinInt64, -1, 1} {
		var o realtime.Options
		fill(reflect.ValueOf(&o).Elem(), n)
		o.Slow, o.CompressFrom = realtime.SlowDisconnect, 0
		if n == 1 { // room for the conversation
			o.MaxConns, o.MemoryBudget, o.QueueBytes, o.MaxMessageBytes = 10, 1<<20, 1<<20, 1<<10
			o.InboundBytes, o.QueueMessages, o.Inbox.Keep.Messages = 1<<10, 10, 0
			o.StaleAfter, o.PongTimeout, o.History.Bytes = time.Minute, time.Second, 1<<10
		}
		bubble(t, o, func(t *testing.T, b *bed) {
			alice := b.openV1(realtime.Identity{UserID: "alice", ExpiresAt: time.Now().Add(time.Hour)})
			bob := b.open("bob")
			b.join("lobby", alice, bob)
			alice.hush()
			bob.hush()
			b.news(realtime.ToRoom("lobby"), "hi")
			require.Len(t, alice.raw(), 1)
			require.Len(t, bob.got(), 1)
			require.NotEmpty(t, alice.asks(`{"type":"send","id":2,"room":"lobby","ttl_ms":1}`))
			time.Sleep(50 * time.Minute)
			synctest.Wait()
			require.NoError(t, alice.conn.Context().Err(), n)
			require.NoError(t, bob.conn.Context().Err(), n)
			time.Sleep(11 * time.Minute)
			synctest.Wait()
			require.Error(t, alice.conn.Context().Err(), n)
			alice.requireEnd(realtime.CloseExpired)
		})
	}
}

func TestRetryAfterIsNotNegative(t *testing.T) {
	for how, want := range map[time.Duration]int64{
		math.MaxInt64: math.MaxInt64/int64(time.Second) + 1, time.Hour: 3600, time.Nanosecond: 1,
	} {
		synctest.Test(t, func(t *testing.T) {
			rt := newManager(t, realtime.Options{Authenticate: realtime.InsecureQueryUser})
			_, err := rt.User("bob").Deny(t.Context(), how)
			require.NoError(t, err)
			code, _, header := knock(t, rt, func(r *http.Request) { r.URL.RawQuery = "user_id=bob" })
			require.Equal(t, http.StatusForbidden, code)
			require.Equal(t, strconv.FormatInt(want, 10), header.Get("Retry-After"))
		})
	}
}

// TestNamesThatCannotExist checks that each call which is about a room, a user or a connection
// says so if there can be none of that name.
func TestNamesThatCannotExist(t *testing.T) {
	bubble(t, keeping(10), func(t *testing.T, b *bed) {
		ctx := context.Background()
		alice := b.open("alice")
		for _, name := range []string{"", "a b\x00", " a", "\xff", "\u0085"} {
			room, user := b.Room(name), b.User(name)
			if name == "" {
				room, user = realtime.Room{}, realtime.User{}
			}
			for call, err := range map[string]error{
				"ToRoom":     second(b.Send(ctx, realtime.ToRoom("lobby", name), realtime.Message{})),
				"ToUser":     second(b.Send(ctx, realtime.ToUser(name), realtime.Message{})),
				"ToConn":     second(b.Send(ctx, realtime.ToConn(name), realtime.Message{})),
				"Union":      second(b.Send(ctx, realtime.ToAll().Union(realtime.ToUser(name)), realtime.Message{})),
				"Join":       second(b.Join(ctx, alice.conn.ID(), name)),
				"Leave":      second(b.Leave(ctx, alice.conn.ID(), name)),
				"Members":    second(room.Members(ctx)),
				"Room.Count": second(room.Count(ctx)),
				"History":    second(room.History(ctx, realtime.HistoryQuery{})),
				"Remove":     second(room.Remove(ctx, "alice")),
				"Remove of":  second(b.Room("lobby").Remove(ctx, name)),
				"Room.Deny":  second(room.Deny(ctx, "alice", time.Second)),
				"Deny of":    second(b.Room("lobby").Deny(ctx, name, time.Second)),
				"User.Count": second(user.Count(ctx)),
				"Disconnect": second(user.Disconnect(ctx, realtime.CloseNormal, "")),
				"User.Deny":  second(user.Deny(ctx, time.Second)),
			} {
				require.ErrorIs(t, err, realtime.ErrName, "%s %q", call, name)
			}
			for range room.LocalConns() {
				t.Fatal("a connection in a room that cannot be")
			}
			for range user.LocalConns() {
				t.Fatal("a connection of a user who cannot be")
			}
		}
		_, err := b.Send(ctx, realtime.ToUser("all"), realtime.Message{})
		require.ErrorIs(t, err, realtime.ErrName)
		_, err = b.Send(ctx, realtime.ToRoom("lobby").Except("").ExceptUser("", "\x00"), realtime.Message{})
		require.NoError(t, err, "what is left out need not exist")
		_, err = b.Send(ctx, realtime.Target{}, realtime.Message{})
		require.NoError(t, err, "nobody")
	})
}

func second[T any](_ T, err error) error { return err }

// TestWhatTheServerAsksForIsFree checks that only what a client starts counts against it: neither
// its pongs to the application's pings nor its answers to the application's calls do.
func TestWhatTheServerAsksForIsFree(t *testing.T) {
	bubble(t, realtime.Options{InboundRate: 1, QueueMessages: 2, PingInterval: time.Second}, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.hush()
		began := time.Now()
		for range 300 {
			_, err := alice.conn.Ping(t.Context())
			require.NoError(t, err)
		}
		for range 300 {
			answered := make(chan error)
			go func() { answered <- second(alice.conn.Call(t.Context(), "m", nil)) }()
			var call struct{ ID json.RawMessage }
			require.NoError(t, json.Unmarshal([]byte(alice.raw()[0]), &call))
			require.NoError(t, alice.Write([]byte(`{"type":"reply","id":`+string(call.ID)+`}`)))
			require.NoError(t, <-answered)
		}
		require.Zero(t, time.Since(began), "nothing waits")
		require.Zero(t, b.Stats().Throttled)
		time.Sleep(5 * time.Minute)
		require.NoError(t, alice.conn.Context().Err())

		for range 100 { // answers to nothing count
			require.NoError(t, alice.Write([]byte(`{"type":"reply","id":1}`)))
		}
		time.Sleep(time.Minute)
		alice.requireEnd(realtime.CloseRate)
	})
}

// TestLongestPongTimeout checks that a client whose answer may take for ever is not ended because
// something lies in front of the ping.
func TestLongestPongTimeout(t *testing.T) {
	o := realtime.Options{PongTimeout: math.MaxInt64, PingInterval: time.Second, StaleAfter: -1}
	bubble(t, o, func(t *testing.T, b *bed) {
		c := b.stalled("alice")
		b.news(realtime.ToUser("alice"), strings.Repeat("x", 32<<10))
		time.Sleep(time.Hour)
		require.NoError(t, c.conn.Context().Err())
	})
}
