package realtime

import (
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// When many are lost at once, those who found a place come back to it.
func TestAbsencesAreFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(&Options{Authorize: InsecureAllowAll, Logger: slog.New(slog.DiscardHandler)})
		open := func() (*Conn, *PipeClient) {
			transport, far := Pipe(V1)
			c, err := m.Register(t.Context(), transport, Identity{UserID: "alice"})
			require.NoError(t, err)
			_, err = m.Join(t.Context(), c.ID(), "lobby")
			require.NoError(t, err)
			return c, far
		}
		a := m.detached
		first, far := open()
		second, far2 := open()
		far.Drop()
		synctest.Wait()
		a.n.Add(maxDetached - 1)
		far2.Drop()
		synctest.Wait()
		heir, far := open()
		yes := func(string) bool { return true }
		_, err := a.resume(heir, a.token(second), yes)
		require.ErrorIs(t, err, errSession, "there is no place for it")
		rooms, err := a.resume(heir, a.token(first), yes)
		require.NoError(t, err)
		require.Equal(t, []string{"lobby"}, rooms)
		a.n.Add(1 - maxDetached)
		require.Zero(t, a.n.Load())
		far.Drop()
		require.NoError(t, m.Close())
	})
}
