package realtime

import (
	"context"
	"log/slog"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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
		require.NoError(t, m.joins.recover(t.Context(), c, &joinOp{room: "rest"}))

		c.session.End(&CloseError{Cause: CauseServer, Code: CloseNormal}, transport.CloseGrace)
		joinsNothing := func() {
			require.ErrorIs(t, m.joins.join(t.Context(), c, &joinOp{room: "lobby"}), ErrClosed)
			require.ErrorIs(t, m.joins.apiJoin(t.Context(), c, "lobby", 0), ErrClosed)
			require.ErrorIs(t, m.joins.recover(t.Context(), c, &joinOp{room: "rest"}), ErrClosed)
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

// A session is resumed while the clean-up of its lost connection begins. Whichever comes first, the
// connection is not counted as one that broke down with a message.
func TestResumeRacingWithTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dead atomic.Int32
		m := New(&Options{
			Authorize: InsecureAllowAll, Logger: slog.New(slog.DiscardHandler),
			Inbox: InboxOptions{
				Keep: Retention{Messages: 10}, Attempts: 1,
				OnDeadLetter: func(context.Context, string, Message) { dead.Add(1) },
			},
		})
		_, err := m.Send(t.Context(), ToUser("alice"), Message{Content: []byte("1")})
		require.NoError(t, err)
		lost, far := openV1(t, m)
		for range 100 {
			require.NoError(t, far.Write([]byte("ping")))
			synctest.Wait()
			var next *Conn
			next, far = openV1(t, m)
			lost.session.End(&CloseError{Cause: CauseLost, Code: CloseLost}, transport.CloseGrace)
			_, err := m.detached.resume(next, m.detached.token(lost), func(string) bool { return true })
			require.NoError(t, err)
			synctest.Wait()
			require.Zero(t, dead.Load())
			lost = next
		}
		require.NoError(t, far.Write([]byte("ping")))
		synctest.Wait()
		far.Drop()
		time.Sleep(time.Minute)
		require.EqualValues(t, 1, dead.Load(), "a session that nobody resumes")
		require.NoError(t, m.Close())
	})
}

// A room that a connection joins after it became live, and before the rooms that it joined earlier
// are shown, is shown once.
func TestJoinBeforeRoomsAreShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(&Options{Show: ShowMembers})
		near, far := Pipe()
		c, err := m.Register(t.Context(), near, Identity{UserID: "alice"})
		require.NoError(t, err)
		_, err = m.Join(t.Context(), c.ID(), "lobby")
		require.NoError(t, err)
		sent := m.Stats().Matched
		m.conns.showRooms(c, nil)
		require.Equal(t, sent, m.Stats().Matched, "no second notice")
		count, err := m.Room("lobby").Count(t.Context())
		require.NoError(t, err)
		require.Equal(t, Count{Users: 1, Conns: 1}, count)
		far.Drop()
		require.NoError(t, m.Close())
	})
}

// User.Join finds a connection while OnConnect runs. However that ends, the connection is not among
// the opening ones after it, which User.Join walks through.
func TestOpeningConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(&Options{
			Logger: slog.New(slog.DiscardHandler),
			OnConnect: func(ctx context.Context, c *Conn) error {
				require.Equal(t, []*Conn{c}, c.m.conns.opening.Values())
				_, err := c.m.User(c.UserID()).Join(ctx, "lobby")
				require.NoError(t, err)
				require.True(t, c.In("lobby"))
				switch c.UserID() {
				case "refused":
					return ErrForbidden
				case "panics":
					panic("oh")
				case "exits":
					runtime.Goexit()
				case "ended":
					return c.Close(CloseNormal, "")
				}
				return nil
			},
		})
		for _, user := range []string{"alice", "refused", "panics", "exits", "ended"} {
			near, far := Pipe()
			go func() { _, _ = m.Register(t.Context(), near, Identity{UserID: user}) }()
			synctest.Wait()
			require.Empty(t, m.conns.opening.Values(), user)
			far.Drop()
		}
		require.NoError(t, m.Close())
	})
}

// A connection that is lost while its user has as many others as allowed leaves no session, and
// OnDisconnect is not told that it could be resumed.
func TestNoSessionBeyondTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var grace []time.Duration
		m := New(&Options{OnDisconnect: func(_ context.Context, _ *Conn, why *CloseError) {
			grace = append(grace, why.Grace)
		}})
		var far []*PipeClient
		for range 2 {
			near, client := Pipe(V1)
			_, err := m.Register(t.Context(), near, Identity{UserID: "alice"})
			require.NoError(t, err)
			far = append(far, client)
		}
		u := m.users.lockNew("alice")
		m.users.limit = 1 // as if the connection had ended while another one replaced it
		m.users.unlock(u)
		far[0].Drop()
		synctest.Wait()
		require.Equal(t, []time.Duration{0}, grace)
		require.Empty(t, m.users.detachedOf("alice"))
		require.Len(t, m.conns.byID.Values(), 1)
		far[1].Drop()
		synctest.Wait()
		require.Equal(t, []time.Duration{0, 15 * time.Second}, grace)
		require.Len(t, m.users.detachedOf("alice"), 1)
		require.NoError(t, m.Close())
		require.Zero(t, m.Stats().MemoryBytes)
	})
}
