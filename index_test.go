package realtime

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/transport"
)

// A join that has found its connection just before that ends must not leave a member
// behind: nobody would ever take it out.
func TestJoinRacingWithTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(nil)
		near, _ := Pipe()
		c, err := m.Register(context.Background(), near, Identity{UserID: "alice"})
		require.NoError(t, err)
		require.NoError(t, m.joins.move(t.Context(), c, "rest", 0))

		c.session.End(&CloseError{Cause: CauseServer, Code: CloseNormal}, transport.CloseGrace)
		joinsNothing := func() {
			require.ErrorIs(t, m.joins.join(t.Context(), c, &entry{room: "lobby"}), ErrClosed)
			require.ErrorIs(t, m.joins.move(t.Context(), c, "lobby", 0), ErrClosed)
			require.Nil(t, m.Conn(c.id))
		}
		joinsNothing() // the clean-up has not run
		synctest.Wait()
		joinsNothing() // it has
		require.Zero(t, m.Stats().Rooms)
		require.NoError(t, m.Close())
		require.False(t, m.conns.enter(c), "and it does not come back")
	})
}

// A connection that was admitted just before Close ends with it.
func TestRegisterRacingWithClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(nil)
		require.NoError(t, m.sessions.enter(entrant{user: "alice"}))
		closed := make(chan struct{})
		go func() {
			_ = m.Close()
			close(closed)
		}()
		synctest.Wait() // Close has looked for connections and waits for this one
		near, _ := Pipe()
		_, err := m.sessions.register(context.Background(), near.t, Identity{UserID: "alice"}, entrant{user: "alice"})
		require.ErrorIs(t, err, ErrClosed)
		<-closed
		require.Zero(t, m.Stats().Users)
	})
}

// A connection that is closed while it registers is an error.
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

// TestManyRoomsOfAConnection passes the number from which they are found by a map, up and
// down.
func TestManyRoomsOfAConnection(t *testing.T) {
	m := New(nil)
	defer func() { _ = m.Close() }()
	transport, far := Pipe()
	defer far.Drop()
	c, err := m.Register(t.Context(), transport, Identity{})
	require.NoError(t, err)
	var want []string
	for range 2 {
		for i := range 3 * fewRooms {
			name := fmt.Sprint("room", i)
			joined, err := m.Join(t.Context(), c.ID(), name)
			require.NoError(t, err)
			require.Equal(t, !slices.Contains(want, name), joined)
			if joined {
				want = append(want, name)
			}
			require.Equal(t, want, c.Rooms())
		}
		for i := 0; i < 3*fewRooms; i += 2 {
			name := fmt.Sprint("room", i)
			left, err := m.Leave(t.Context(), c.ID(), name)
			require.NoError(t, err)
			require.True(t, left)
			want = slices.DeleteFunc(want, func(s string) bool { return s == name })
			require.Equal(t, want, c.Rooms())
		}
	}
	require.Equal(t, len(want), m.Stats().Rooms)
}

func TestMemoryBudgetIsOnUnlessItIsOff(t *testing.T) {
	for given, want := range map[int]int{0: 256 << 20, 1000: 1000, -1: 0} {
		require.Equal(t, want, (&Options{MemoryBudget: given}).resolved().MemoryBudget)
	}
}
