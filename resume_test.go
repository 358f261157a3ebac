package realtime

import (
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// When too many connections are lost at once, the sessions that could be detached can be resumed.
func TestDetachedSessionsAreBounded(t *testing.T) {
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
		d := m.detached
		first, far := open()
		second, far2 := open()
		far.Drop()
		synctest.Wait()
		d.n.Add(maxDetached - 1)
		far2.Drop()
		synctest.Wait()
		next, far := open()
		yes := func(string) bool { return true }
		_, err := d.resume(next, d.token(second), yes)
		require.ErrorIs(t, err, errSession, "there was no space for it")
		rooms, err := d.resume(next, d.token(first), yes)
		require.NoError(t, err)
		require.Equal(t, []string{"lobby"}, rooms)
		d.n.Add(1 - maxDetached)
		require.Zero(t, d.n.Load())
		far.Drop()
		require.NoError(t, m.Close())
	})
}
