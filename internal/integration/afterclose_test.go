package integration_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// After Close every method returns, and says what is no longer to be had.
func TestEachMethodAfterClose(t *testing.T) {
	bubble(t, keeping(10), func(t *testing.T, b *bed) {
		ctx := context.Background()
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		b.join("lobby", alice)
		b.news(realtime.ToRoom("lobby"), "hi")
		require.NoError(t, b.Close())
		c, room, user := alice.conn, b.Room("lobby"), b.User("alice")
		transport, _ := realtime.Pipe()
		for call, err := range map[string]error{
			"Send":       second(b.Send(ctx, realtime.ToRoom("lobby"), realtime.Message{})),
			"Send all":   second(b.Send(ctx, realtime.ToAll(), realtime.Message{})),
			"Register":   second(b.Register(ctx, transport, realtime.Identity{})),
			"Conn.Close": c.Close(realtime.CloseNormal, ""),
			"Conn.Ping":  second(c.Ping(ctx)),
			"Renew":      c.Renew(realtime.Identity{UserID: "alice"}),
			"Call":       second(realtime.Call[bool](ctx, c, "sure", nil)),
			"History":    second(room.History(ctx, realtime.HistoryQuery{})),
		} {
			require.ErrorIs(t, err, realtime.ErrClosed, call)
		}
		require.ErrorIs(t, second(b.Join(ctx, c.ID(), "lobby")), realtime.ErrNotFound)
		require.ErrorIs(t, second(b.JoinFrom(ctx, c.ID(), "lobby", realtime.From{Last: 1})), realtime.ErrNotFound)
		require.ErrorIs(t, second(b.Leave(ctx, c.ID(), "lobby")), realtime.ErrNotFound)
		for call, err := range map[string]error{
			"Members":    second(room.Members(ctx)),
			"Room.Count": second(room.Count(ctx)),
			"Remove":     second(room.Remove(ctx, "alice")),
			"Room.Deny":  second(room.Deny(ctx, "alice", 1)),
			"User.Count": second(user.Count(ctx)),
			"Disconnect": second(user.Disconnect(ctx, realtime.CloseNormal, "")),
			"User.Deny":  second(user.Deny(ctx, 1)),
			"Shutdown":   b.Shutdown(ctx),
			"Close":      b.Close(),
		} {
			require.NoError(t, err, call)
		}
		require.Nil(t, b.Conn(c.ID()))
		require.Empty(t, c.Rooms())
		require.Zero(t, b.Stats().Conns)
		c.Info()
		c.Identity()
		for range b.LocalConns() {
			t.Fatal("a connection")
		}
		for range b.LocalRooms() {
			t.Fatal("a room")
		}
		code, _, _ := knock(t, b.Manager, func(*http.Request) {})
		require.Equal(t, http.StatusServiceUnavailable, code)
	})
}
