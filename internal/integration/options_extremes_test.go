package integration_test

import (
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

// fill sets every number and duration of a struct, and of structs in it, to n.
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

// largest is the latest time.Time.
var largest = time.Unix(1<<63-62135596801, 999999999)

// With the largest value in every number and duration, messages are delivered: no value overflows,
// and nothing loops.
func TestLargestOptions(t *testing.T) {
	var o realtime.Options
	fill(reflect.ValueOf(&o).Elem(), math.MaxInt64)
	o.Slow, o.CompressFrom = realtime.SlowDisconnect, 0
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice", ExpiresAt: largest})
		bob := b.open("bob")
		b.join("lobby", alice, bob)
		alice.discard()
		bob.discard()
		msg := realtime.Message{Content: json.RawMessage(`"hi"`), TTL: math.MaxInt64}
		res, err := b.Send(t.Context(), realtime.ToRoom("lobby"), msg)
		require.NoError(t, err)
		require.Equal(t, 2, res.Queued)
		require.Len(t, alice.raw(), 1)
		require.Len(t, alice.request(`{"type":"history","id":1,"room":"lobby","limit":9007199254740991}`), 1)
		require.Len(t, alice.request(`{"type":"send","id":2,"room":"lobby","ttl_ms":9007199254740991}`), 2)
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
		require.Contains(t, b.members("lobby"), "alice", "the session can be resumed for as long")
	})
}

// The same with the smallest value, which means off or the default, and with one. Nothing loops or
// panics.
func TestSmallestOptions(t *testing.T) {
	for _, n := range []int64{math.MinInt64, -1, 1} {
		var o realtime.Options
		fill(reflect.ValueOf(&o).Elem(), n)
		o.Slow, o.CompressFrom = realtime.SlowDisconnect, 0
		if n == 1 { // enough for the test
			o.Limits.Conns, o.Limits.MemoryBytes, o.Limits.QueueBytes, o.Limits.MessageBytes = 10, 1<<20, 1<<20, 1<<10
			o.Limits.InboundBytes, o.Limits.QueueMessages, o.Inbox.Keep.Messages = 1<<10, 10, 0
			o.Timeouts.Stale, o.Timeouts.Pong, o.History.Bytes = time.Minute, time.Second, 1<<10
		}
		bubble(t, o, func(t *testing.T, b *bed) {
			alice := b.openV1(realtime.Identity{UserID: "alice", ExpiresAt: time.Now().Add(time.Hour)})
			bob := b.open("bob")
			b.join("lobby", alice, bob)
			alice.discard()
			bob.discard()
			b.news(realtime.ToRoom("lobby"), "hi")
			require.Len(t, alice.raw(), 1)
			require.Len(t, bob.got(), 1)
			require.NotEmpty(t, alice.request(`{"type":"send","id":2,"room":"lobby","ttl_ms":1}`))
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
			code, _, header := refusedHandshake(t, rt, func(r *http.Request) { r.URL.RawQuery = "user_id=bob" })
			require.Equal(t, http.StatusForbidden, code)
			require.Equal(t, strconv.FormatInt(want, 10), header.Get("Retry-After"))
		})
	}
}

// A client with an unlimited time for its pong is not ended because of the queue before the ping.
func TestLongestPongTimeout(t *testing.T) {
	o := realtime.Options{Timeouts: realtime.Timeouts{Pong: math.MaxInt64, Ping: time.Second, Stale: -1}}
	bubble(t, o, func(t *testing.T, b *bed) {
		c := b.stalled("alice")
		b.news(realtime.ToUser("alice"), strings.Repeat("x", 32<<10))
		time.Sleep(time.Hour)
		require.NoError(t, c.conn.Context().Err())
	})
}
