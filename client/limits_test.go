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

// TestExtremeArguments tests the largest and negative numbers as arguments: the largest count as
// unlimited, negative ones mean the same as in the server's API.
func TestExtremeArguments(t *testing.T) {
	withManager(t, realtime.Options{History: realtime.Retention{Messages: 10}}, func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		require.NoError(t, alice.Join(t.Context(), "lobby"))
		for _, ttl := range []time.Duration{math.MaxInt64, math.MaxInt64 - 1} {
			got, err := alice.SendReceipt(t.Context(), realtime.ToRoom("lobby"), realtime.Message{TTL: ttl})
			require.NoError(t, err)
			require.Positive(t, got.Offset, "the message is kept")
		}
		for _, ttl := range []time.Duration{math.MinInt64, -1} {
			err := alice.Send(t.Context(), realtime.ToRoom("lobby"), realtime.Message{TTL: ttl})
			require.ErrorIs(t, err, realtime.ErrInvalidMessage)
		}
		page, err := alice.History(t.Context(), "lobby", client.HistoryQuery{Limit: math.MaxInt})
		require.NoError(t, err)
		require.Len(t, page.Messages, 2)
		bob := w.dial("bob")
		require.NoError(t, bob.JoinWith(t.Context(), "lobby", client.JoinOptions{From: realtime.From{Last: math.MaxInt}}))
		require.Equal(t, []string{"alice@lobby: null", "alice@lobby: null"}, bob.received())
		carol := w.dial("carol")
		require.NoError(t, carol.JoinWith(t.Context(), "lobby", client.JoinOptions{From: realtime.From{Last: -1}}))
		require.Empty(t, carol.received())
	})
}

// TestExtremeOptions tests a conversation with a lost connection, with the largest and smallest
// numbers in all options.
func TestExtremeOptions(t *testing.T) {
	for _, n := range []int64{math.MaxInt64, math.MinInt64, 1} {
		withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
			var o client.DialOptions
			for _, f := range reflect.ValueOf(&o).Elem().Fields() {
				if f.CanInt() {
					f.SetInt(n)
				}
			}
			if n == 1 { // enough for the conversation
				o.MaxMessageBytes, o.PingInterval, o.PongTimeout = 1<<10, time.Second, time.Second
			}
			alice := w.dialWith("alice", o)
			require.NoError(t, alice.Join(t.Context(), "lobby"))
			require.NoError(t, alice.sendChat("lobby", "hi"))
			require.Equal(t, []string{`alice@lobby: "hi"`}, alice.received())
			time.Sleep(time.Hour)
			w.cutAll()
			alice.awaitReconnect()
			require.NoError(t, alice.sendChat("lobby", "again"))
			require.Contains(t, alice.received(), `alice@lobby: "again"`)
		})
	}
}
