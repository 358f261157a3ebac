package integration_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

func TestJoinAndLeaveErrors(t *testing.T) {
	bubble(t, realtime.Options{Limits: realtime.Limits{RoomsPerConn: 2}}, func(t *testing.T, b *bed) {
		alice := b.open("alice")
		id := alice.conn.ID()
		_, err := b.Join(t.Context(), "conn_x", "a")
		require.ErrorIs(t, err, realtime.ErrNotFound)
		_, err = b.Leave(t.Context(), "conn_x", "a")
		require.ErrorIs(t, err, realtime.ErrNotFound)
		for _, bad := range []string{"", " a", "a\n", "\xff", string(make([]byte, 256)), "a\u0085b"} {
			_, err = b.Join(t.Context(), id, bad)
			require.ErrorIs(t, err, realtime.ErrInvalidName, "%q", bad)
			_, err = b.Join(t.Context(), "conn_x", bad)
			require.ErrorIs(t, err, realtime.ErrInvalidName, "%q, and an unknown connection", bad)
			_, err = b.Leave(t.Context(), "conn_x", bad)
			require.ErrorIs(t, err, realtime.ErrInvalidName, "%q, and an unknown connection", bad)
		}
		for _, good := range []string{"all", "ü/%"} {
			_, err = b.Join(t.Context(), id, good)
			require.NoError(t, err)
		}
		_, err = b.Join(t.Context(), id, "c")
		require.ErrorIs(t, err, realtime.ErrTooManyRooms)
		_, err = b.Join(t.Context(), id, "all")
		require.NoError(t, err, "already a member")

		require.NoError(t, alice.conn.Close(1000, ""))
		_, err = b.Join(t.Context(), id, "c")
		require.Error(t, err)
	})
}

// Each call that names a room, a user or a connection returns ErrInvalidName if the name is
// invalid.
func TestInvalidNames(t *testing.T) {
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
				"Conn.Join":  second(alice.conn.Join(ctx, name)),
				"JoinFrom":   second(alice.conn.JoinFrom(ctx, name, realtime.From{Last: 1})),
				"Conn.Leave": second(alice.conn.Leave(ctx, name)),
				"Room.Send":  second(room.Send(ctx, "t", nil)),
				"User.Send":  second(user.Send(ctx, "t", nil)),
				"User.Join":  second(user.Join(ctx, "lobby")),
				"Join of":    second(b.User("nobody").Join(ctx, name)),
				"User.Leave": second(user.Leave(ctx, "lobby")),
				"Leave of":   second(b.User("nobody").Leave(ctx, name)),
				"Members":    second(room.Users(ctx)),
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
				require.ErrorIs(t, err, realtime.ErrInvalidName, "%s %q", call, name)
			}
			for range room.LocalConns() {
				t.Fatal("a connection in a room with an invalid name")
			}
			for range user.LocalConns() {
				t.Fatal("a connection of a user with an invalid name")
			}
		}
		_, err := b.Send(ctx, realtime.ToUser("all"), realtime.Message{})
		require.ErrorIs(t, err, realtime.ErrInvalidName)
		_, err = b.Send(ctx, realtime.ToRoom("lobby").Except("").ExceptUser("", "\x00"), realtime.Message{})
		require.NoError(t, err, "an exception need not exist")
		_, err = b.Send(ctx, realtime.Target{}, realtime.Message{})
		require.NoError(t, err, "nobody")
	})
}

func TestInvalidDevice(t *testing.T) {
	rt := newManager(t, realtime.Options{
		Authenticate: func(*http.Request) (realtime.Identity, error) {
			return realtime.Identity{UserID: "alice", Device: strings.Repeat("x", 300)}, nil
		},
	})
	code, message, _ := refusedHandshake(t, rt, func(*http.Request) {})
	require.Equal(t, http.StatusBadRequest, code)
	require.Equal(t, "invalid device", message)
}
