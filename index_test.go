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
