package realtime

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/transport"
)

// A join that finds its connection just before the connection ends adds no member: it would never
// be removed.
func TestJoinRacingWithTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(nil)
		near, _ := Pipe()
		c, err := m.Register(context.Background(), near, Identity{UserID: "alice"})
		require.NoError(t, err)
		require.NoError(t, m.joins.apiJoin(t.Context(), c, "rest", 0))

		c.session.End(&CloseError{Cause: CauseServer, Code: CloseNormal}, transport.CloseGrace)
		joinsNothing := func() {
			require.ErrorIs(t, m.joins.join(t.Context(), c, &joinOp{room: "lobby"}), ErrClosed)
			require.ErrorIs(t, m.joins.apiJoin(t.Context(), c, "lobby", 0), ErrClosed)
			require.Nil(t, m.Conn(c.id))
		}
		joinsNothing() // the clean-up has not run
		synctest.Wait()
		joinsNothing() // it has
		require.Zero(t, m.Stats().Rooms)
		require.NoError(t, m.Close())
		require.False(t, m.conns.add(c), "a connection that has ended stays out")
	})
}

// A connection that was admitted just before Close ends with the Manager.
func TestRegisterRacingWithClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(nil)
		alice := candidate{user: "alice"}
		require.NoError(t, m.registry.reserve(alice))
		closed := make(chan struct{})
		go func() {
			_ = m.Close()
			close(closed)
		}()
		synctest.Wait() // Close has walked the connections and waits for this one
		near, _ := Pipe()
		_, err := m.registry.register(
			context.Background(), near.t, Identity{UserID: "alice"}, alice)
		require.ErrorIs(t, err, ErrClosed)
		<-closed
		require.Zero(t, m.Stats().Users)
	})
}

// Register of a connection that is closed in OnConnect returns an error.
func TestRegisterRacingWithTheEnd(t *testing.T) {
	m := New(&Options{OnConnect: func(_ context.Context, c *Conn) error {
		return c.Close(CloseAway, "")
	}})
	near, far := Pipe()
	defer far.Drop()
	_, err := m.Register(t.Context(), near, Identity{})
	require.ErrorIs(t, err, ErrClosed)
	require.NoError(t, m.Close())
}
