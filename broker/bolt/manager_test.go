package bolt_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/bolt"
)

// A client was in a room before the first message, or after it. After a restart the client has
// missed the messages since then, or none, and it is told which.
func TestRecoveryAfterRestart(t *testing.T) {
	dir := t.TempDir()
	var rt *realtime.Manager
	restart := func(o *bolt.Options) {
		if rt != nil {
			require.NoError(t, rt.Close())
		}
		rt = realtime.New(&realtime.Options{
			Broker: open(t, dir, o), History: realtime.Retention{Messages: 10},
		})
	}
	join := func(since realtime.Position) realtime.Joined {
		end, client := realtime.Pipe(realtime.V1)
		conn, err := rt.Register(t.Context(), end, realtime.Identity{UserID: "alice"})
		require.NoError(t, err)
		joined, err := conn.JoinFrom(t.Context(), "lobby", realtime.From{Since: since})
		require.NoError(t, err)
		client.Drop()
		return joined
	}
	restart(nil)
	first := join(realtime.Position{})
	require.Zero(t, first.At.Offset)
	restart(nil)
	again := join(first.At)
	require.True(t, again.Recovered)
	require.Equal(t, first.At, again.At)
	_, err := rt.Send(t.Context(), realtime.ToRoom("lobby"), realtime.Chat("bob", "hi"))
	require.NoError(t, err)
	restart(nil)
	again = join(first.At)
	require.True(t, again.Recovered)
	require.Equal(t, first.At, again.At)
	require.EqualValues(t, 1, again.Top)
	restart(&bolt.Options{NewEpochs: true})
	again = join(first.At)
	require.False(t, again.Recovered, "messages may be missing")
	require.Equal(t, broker.ReasonEpoch, again.Reason)
	require.NotEqual(t, first.At.Epoch, again.At.Epoch)
	require.Zero(t, again.At.Offset)
	require.EqualValues(t, 1, again.Top, "kept messages are delivered")
	require.NoError(t, rt.Close())
}
