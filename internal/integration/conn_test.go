package integration_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

func TestConnInfo(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		start := time.Now()
		alice := b.open("alice")
		time.Sleep(time.Minute)
		alice.say("x", "all")
		require.NoError(t, alice.Write([]byte("ping")))
		alice.discard()
		require.Equal(t, realtime.Info{
			RemoteAddr: "pipe", ConnectedAt: start, LastSeen: start.Add(time.Minute),
			Received: 2, Sent: 3,
		}, alice.conn.Info())
	})
}

func TestConnCloseCodes(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice := b.open("alice")
		for _, code := range []realtime.CloseCode{0, 999, 1002, 1004, 1005, 1006, 1007, 1015, 2999, 5000} {
			require.ErrorIs(t, alice.conn.Close(code, ""), realtime.ErrInvalidCloseCode, "%d", code)
		}
		require.NoError(t, alice.conn.Close(4999, strings.Repeat("ü", 100)))
		alice.requireEnd(4999)
		require.Equal(t, strings.Repeat("ü", 61), alice.ended().Reason)
		why, ok := errors.AsType[*realtime.CloseError](contextCause(alice.conn.Context()))
		require.True(t, ok)
		require.Equal(t, realtime.CauseServer, why.Cause)
		require.ErrorIs(t, why, realtime.ErrClosed)
		require.Contains(t, why.Error(), "server, code 4999")
	})
}

func TestPingEnds(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		mute := b.stalled("mute")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := mute.conn.Ping(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		time.AfterFunc(time.Second, func() { mute.Drop() })
		_, err = mute.conn.Ping(t.Context())
		require.ErrorIs(t, err, realtime.ErrClosed)
	})
}

func TestHandles(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice, alice2, bob := b.open("alice"), b.open("alice"), b.open("bob")
		b.join("x", alice, alice2, bob)
		b.join("y", bob)

		require.Same(t, bob.conn, b.Conn(bob.conn.ID()))
		require.Nil(t, b.Conn("conn_x"))
		require.Equal(t, "x", b.Room("x").Name())
		require.Equal(t, "alice", b.User("alice").ID())
		require.Equal(t, []string{"x", "y"}, bob.conn.Rooms())
		require.Equal(t, "alice", alice.conn.Identity().UserID)

		n, err := b.User("alice").Count(t.Context())
		require.NoError(t, err)
		require.Equal(t, 2, n)
		n, _ = b.User("nobody").Count(t.Context())
		require.Zero(t, n)
		members, _ := b.Room("nowhere").Users(t.Context())
		require.Empty(t, members)
		count, _ := b.Room("nowhere").Count(t.Context())
		require.Zero(t, count)

		for c := range b.Room("x").LocalConns() { // no lock is held in the body of the loop
			_, err := b.Leave(t.Context(), c.ID(), "x")
			require.NoError(t, err)
		}
		for range b.Room("nowhere").LocalConns() {
			t.Fail()
		}
		var rooms []string
		for name := range b.LocalRooms() {
			rooms = append(rooms, name)
		}
		require.Equal(t, []string{"y"}, rooms)
		all := 0
		for range b.LocalConns() {
			all++
		}
		require.Equal(t, 3, all)

		closed, err := b.User("alice").Disconnect(t.Context(), 4500, "banned")
		require.NoError(t, err)
		require.Equal(t, 2, closed)
		alice.requireEnd(4500)
		alice2.requireEnd(4500)
		require.Equal(t, "banned", alice.ended().Reason)
		_, err = b.User("bob").Disconnect(t.Context(), 1006, "")
		require.ErrorIs(t, err, realtime.ErrInvalidCloseCode)
		require.Nil(t, b.Conn(alice.conn.ID()))
		require.ErrorIs(t, alice.conn.Close(1000, ""), realtime.ErrClosed)
	})
}
