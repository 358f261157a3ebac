package integration_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// A game: each of 100 players sends an input in each tick, and the server sends its state to all.
// Inputs need no answer, no input comes from a player whose join was not handled, and nothing is
// lost for players that read.
func TestGameServer(t *testing.T) {
	const players, ticks, tick = 100, 60, time.Second / 30
	var inputs, strangers atomic.Int64
	known := make([]atomic.Bool, players)
	number := func(c *realtime.Conn) (n int) {
		_, _ = fmt.Sscanf(c.UserID(), "player%d", &n)
		return n
	}
	var r realtime.Router
	realtime.On(&r, "input", func(_ context.Context, c *realtime.Conn, in realtime.Inbound, _ [2]int) error {
		inputs.Add(1)
		if !known[number(c)].Load() || !in.Message.Ephemeral || in.Target.Room() != "" {
			strangers.Add(1)
		}
		return nil
	})
	o := realtime.Options{
		OnMessage: r.OnMessage,
		OnRoom: func(_ context.Context, e realtime.RoomEvent) {
			time.Sleep(time.Millisecond)
			known[number(e.Conn)].Store(e.Kind == realtime.MemberJoined)
		},
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		all := make([]*client, players)
		for i := range all {
			all[i] = b.openV1(realtime.Identity{UserID: fmt.Sprint("player", i)})
			require.NoError(t, all[i].Write([]byte(`{"type":"join","id":1,"room":"arena"}`)))
		}
		synctest.Wait()
		for range ticks {
			for _, c := range all {
				require.NoError(t, c.Write([]byte(
					`{"type":"send","server":true,"message_type":"input","content":[1,-1],"ephemeral":true}`)))
			}
			state := realtime.Message{Type: "state", Binary: []byte("state"), Ephemeral: true}
			_, err := b.Send(t.Context(), realtime.ToRoom("arena"), state)
			require.NoError(t, err)
			time.Sleep(tick)
		}
		time.Sleep(time.Second)
		for _, c := range all {
			answers, states := 0, 0
			for _, frame := range c.raw() {
				if strings.Contains(frame, `"reply"`) {
					answers++
				} else if strings.Contains(frame, `"state"`) {
					states++
				}
			}
			require.Equal(t, 1, answers, "to the join")
			require.Equal(t, ticks, states)
		}
		require.EqualValues(t, players*ticks, inputs.Load())
		require.Zero(t, strangers.Load())
		require.Zero(t, b.Stats().Failed)
		require.NoError(t, b.Shutdown(t.Context())) // waits for OnRoom
	})
}
