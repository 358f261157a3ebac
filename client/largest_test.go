package client_test

import (
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// The largest number means as much as there is, and a negative one what it means to the server's
// own code.
func TestLargestNumbers(t *testing.T) {
	bubble(t, realtime.Options{History: realtime.Retention{Messages: 10}}, func(t *testing.T, w *world) {
		alice := w.dial("alice")
		require.NoError(t, alice.Join(t.Context(), "lobby"))
		for _, ttl := range []time.Duration{math.MaxInt64, math.MaxInt64 - 1, math.MinInt64, -1} {
			got, err := alice.SendReceipt(t.Context(), realtime.ToRoom("lobby"), realtime.Message{TTL: ttl})
			require.NoError(t, err)
			require.Equal(t, ttl > 0, got.Offset > 0, "it is kept")
		}
		page, err := alice.History(t.Context(), "lobby", client.HistoryQuery{Limit: math.MaxInt})
		require.NoError(t, err)
		require.Len(t, page.Messages, 2)
		bob := w.dial("bob")
		require.NoError(t, bob.JoinFrom(t.Context(), "lobby", realtime.From{Last: math.MaxInt}))
		require.Equal(t, []string{"alice@lobby: null", "alice@lobby: null"}, bob.got())
		carol := w.dial("carol")
		require.NoError(t, carol.JoinFrom(t.Context(), "lobby", realtime.From{Last: -1}))
		require.Empty(t, carol.got())
	})
}

// TestExtremeOptions has a conversation, and a loss in it, with the largest and smallest numbers.
func TestExtremeOptions(t *testing.T) {
	for _, n := range []int64{math.MaxInt64, math.MinInt64, 1} {
		bubble(t, realtime.Options{}, func(t *testing.T, w *world) {
			var o client.DialOptions
			for _, f := range reflect.ValueOf(&o).Elem().Fields() {
				if f.CanInt() {
					f.SetInt(n)
				}
			}
			if n == 1 { // room for the conversation
				o.MaxMessageBytes, o.PingInterval, o.PongTimeout = 1<<10, time.Second, time.Second
			}
			alice := w.dialWith("alice", o)
			require.NoError(t, alice.Join(t.Context(), "lobby"))
			require.NoError(t, alice.say("lobby", "hi"))
			require.Equal(t, []string{`alice@lobby: "hi"`}, alice.got())
			time.Sleep(time.Hour)
			w.cut()
			alice.back()
			require.NoError(t, alice.say("lobby", "again"))
			require.Contains(t, alice.got(), `alice@lobby: "again"`)
		})
	}
}
