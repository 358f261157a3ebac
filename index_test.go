package realtime

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// A join that has found its connection just before that ends must not leave a member
// behind: nobody would ever take it out.
func TestJoinRacingWithTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(nil)
		transport, _ := Pipe()
		c, err := m.Register(context.Background(), transport, Identity{UserID: "alice"})
		require.NoError(t, err)
		require.NoError(t, m.index.move(c, "rest"))

		c.finish(&CloseError{Cause: CauseServer, Code: CloseNormal}, closeGrace)
		joinsNothing := func() {
			_, err = m.index.join(c, "lobby")
			require.ErrorIs(t, err, ErrClosed)
			require.ErrorIs(t, m.index.move(c, "lobby"), ErrClosed)
			require.Nil(t, m.Conn(c.id))
		}
		joinsNothing() // the clean-up has not run
		synctest.Wait()
		joinsNothing() // it has
		require.Zero(t, m.Stats().Rooms)
		require.NoError(t, m.Close())
		require.False(t, m.index.enter(c), "and it does not come back")
	})
}

// A connection that was admitted just before Close ends with it.
func TestRegisterRacingWithClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(nil)
		require.NoError(t, m.gate.enter("alice"))
		closed := make(chan struct{})
		go func() {
			_ = m.Close()
			close(closed)
		}()
		synctest.Wait() // Close has looked for connections and waits for this one
		transport, _ := Pipe()
		_, err := m.register(context.Background(), transport, Identity{UserID: "alice"})
		require.ErrorIs(t, err, ErrClosed)
		<-closed
		require.Zero(t, m.Stats().Users)
	})
}
