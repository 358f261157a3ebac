package realtime

import (
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/admission"
)

// openV1 opens a connection of alice, which is in the lobby.
func openV1(t *testing.T, m *Manager) (*Conn, *PipeClient) {
	near, far := Pipe(V1)
	c, err := m.Register(t.Context(), near, Identity{UserID: "alice"})
	require.NoError(t, err)
	_, err = m.Join(t.Context(), c.ID(), "lobby")
	require.NoError(t, err)
	return c, far
}

// When too many connections are lost at once, the sessions that could be detached can be resumed.
func TestDetachedSessionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(&Options{Authorize: InsecureAllowAll, Logger: slog.New(slog.DiscardHandler)})
		d := m.detached
		first, far := openV1(t, m)
		second, far2 := openV1(t, m)
		far.Drop()
		synctest.Wait()
		d.n.Add(maxDetached - 1)
		far2.Drop()
		synctest.Wait()
		next, far := openV1(t, m)
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

// A message that excludes a connection excludes the connection that takes over its session as well,
// also before the lost connection is forgotten.
func TestExceptionDuringResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(&Options{Authorize: InsecureAllowAll, Logger: slog.New(slog.DiscardHandler)})
		lost, far := openV1(t, m)
		far.Drop()
		synctest.Wait()
		again, far := openV1(t, m)
		queued := func(to Target) int {
			res, err := m.Send(t.Context(), to, Message{Content: []byte("1")})
			require.NoError(t, err)
			return res.Queued
		}
		require.Equal(t, 1, queued(ToRoom("lobby").Except(lost.ID())))
		require.True(t, m.detached.takeOver(again, lost, func(string) bool { return true }))
		require.Zero(t, queued(ToRoom("lobby").Except(lost.ID())))
		require.Equal(t, 1, queued(ToRoom("lobby")))
		m.detached.forget(lost)
		require.Zero(t, queued(ToRoom("lobby").Except(lost.ID())))
		far.Drop()
		require.NoError(t, m.Close())
	})
}

// A room that a connection did not get from the session that it resumed is not taken for the room
// of the REST handler: the next join of that room would do nothing.
func TestRestRoomThatIsNotTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(&Options{
			Authorize: InsecureAllowAll, Logger: slog.New(slog.DiscardHandler),
			Limits: Limits{RoomsPerConn: 2},
		})
		lost, far := openV1(t, m)
		require.NoError(t, m.joins.apiJoin(t.Context(), lost, "hall", 0))
		far.Drop()
		synctest.Wait()
		again, far := openV1(t, m)
		_, err := m.Join(t.Context(), again.ID(), "other")
		require.NoError(t, err)
		yes := func(string) bool { return true }
		rooms, err := m.detached.resume(again, m.detached.token(lost), yes)
		require.NoError(t, err)
		require.Equal(t, []string{"lobby", "other"}, rooms, "there is no place for the hall")
		_, err = m.Leave(t.Context(), again.ID(), "other")
		require.NoError(t, err)
		require.NoError(t, m.joins.apiJoin(t.Context(), again, "hall", 0))
		require.Equal(t, []string{"lobby", "hall"}, again.Rooms())
		far.Drop()
		require.NoError(t, m.Close())
	})
}

// A room from which the user is removed during the resume is not taken over. Remove may have found
// the lost connection, and finds no member there any more.
func TestRemoveDuringResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(&Options{Authorize: InsecureAllowAll, Logger: slog.New(slog.DiscardHandler)})
		lost, far := openV1(t, m)
		for _, room := range []string{"hall", "vip"} {
			require.NoError(t, m.joins.join(t.Context(), lost, &joinOp{room: room, byClient: true}))
		}
		far.Drop()
		synctest.Wait()
		again, far := openV1(t, m)
		rooms, err := m.detached.resume(again, m.detached.token(lost), func(string) bool {
			m.revocations.Revoke(admission.Subject{User: "alice", Room: "vip"}) // as Remove begins
			return true
		})
		require.NoError(t, err)
		require.Equal(t, []string{"lobby", "hall"}, rooms)
		far.Drop()
		require.NoError(t, m.Close())
	})
}

// A connection that is closed while it resumes a session does not become a member of a room,
// because nothing would end the membership.
func TestCloseDuringResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(&Options{Authorize: InsecureAllowAll, Logger: slog.New(slog.DiscardHandler)})
		lost, far := openV1(t, m)
		require.NoError(t, m.joins.join(t.Context(), lost, &joinOp{room: "hall", byClient: true}))
		far.Drop()
		synctest.Wait()
		again, far := openV1(t, m)
		rooms, err := m.detached.resume(again, m.detached.token(lost), func(string) bool {
			require.NoError(t, again.Close(CloseNormal, ""))
			synctest.Wait()
			return true
		})
		require.NoError(t, err)
		require.Equal(t, []string{"lobby"}, rooms, "those that it was in when it ended")
		require.Zero(t, m.Stats().Rooms)
		far.Drop()
		require.NoError(t, m.Close())
	})
}
