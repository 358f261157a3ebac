package integration_test

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/memory"
)

// Send of a room, of a user and of a connection encodes its content.
func TestSendOfHandles(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		ctx := t.Context()
		one, two := b.openV1(realtime.Identity{UserID: "alice"}), b.openV1(realtime.Identity{UserID: "alice"})
		b.join("lobby", one)
		two.discard()
		for content, want := range map[any]string{
			"<hi>":                    `"\u003chi\u003e"`,
			7:                         "7",
			struct{ A *int }{}:        `{"A":null}`,
			json.Number("1.50"):       "1.50",
			(*json.RawMessage)(nil):   "null",
			time.Duration(0).String(): `"0s"`,
			nil:                       "null",
		} {
			for receivers, send := range map[int]func(context.Context, string, any) (realtime.Result, error){
				1: b.Room("lobby").Send, 2: b.User("alice").Send,
			} {
				res, err := send(ctx, "t", content)
				require.NoError(t, err)
				require.Equal(t, receivers, res.Queued)
				require.Equal(t, "t "+want, one.got()[0])
			}
			two.discard()
		}
		res, err := two.conn.Send(ctx, "t", json.RawMessage(`{"a": 1}`))
		require.NoError(t, err)
		require.Equal(t, 1, res.Queued)
		require.Empty(t, one.got())
		require.Equal(t, []string{`t {"a": 1}`}, two.got())
		_, err = two.conn.Send(ctx, "frame", []byte(nil))
		require.NoError(t, err)
		require.NotContains(t, two.raw()[0], "content", "binary, and empty")

		for name, send := range map[string]func(context.Context, string, any) (realtime.Result, error){
			"room": b.Room("lobby").Send, "user": b.User("alice").Send, "conn": one.conn.Send,
		} {
			_, err := send(ctx, "t", func() {})
			require.ErrorIs(t, err, realtime.ErrInvalidMessage, name)
			_, err = send(ctx, "t", json.RawMessage("{"))
			require.ErrorIs(t, err, realtime.ErrInvalidMessage, name)
			_, err = send(ctx, "welcome", nil)
			require.ErrorIs(t, err, realtime.ErrInvalidName, name)
		}
		require.NoError(t, one.conn.Close(realtime.CloseNormal, ""))
		res, err = one.conn.Send(ctx, "t", 1)
		require.NoError(t, err)
		require.Zero(t, res.Matched, "it has ended")
	})
}

// A connection joins and leaves rooms by itself.
func TestRoomsOfConn(t *testing.T) {
	bubble(t, keeping(10), func(t *testing.T, b *bed) {
		ctx := t.Context()
		b.news(realtime.ToRoom("lobby"), "old")
		alice := b.open("alice")
		require.Same(t, b.Manager, alice.conn.Manager())
		require.False(t, alice.conn.In("lobby"))
		joined, err := alice.conn.Join(ctx, "lobby")
		require.NoError(t, err)
		require.True(t, joined)
		require.True(t, alice.conn.In("lobby"))
		joined, err = alice.conn.Join(ctx, "lobby")
		require.NoError(t, err)
		require.False(t, joined)
		alice.discard()
		from, err := alice.conn.JoinFrom(ctx, "lobby", realtime.From{Last: 1})
		require.NoError(t, err)
		require.False(t, from.New)
		require.EqualValues(t, 1, from.Top)
		require.Equal(t, []string{`news "old"`}, alice.got())
		left, err := alice.conn.Leave(ctx, "lobby")
		require.NoError(t, err)
		require.True(t, left)
		left, err = alice.conn.Leave(ctx, "lobby")
		require.NoError(t, err)
		require.False(t, left)
		require.False(t, alice.conn.In("lobby"))
		require.NoError(t, alice.conn.Close(realtime.CloseNormal, ""))
		_, err = alice.conn.Join(ctx, "lobby")
		require.ErrorIs(t, err, realtime.ErrClosed)
	})
}

// A connection whose session is detached leaves a room, so that the session has left it when it is
// resumed. It cannot join one.
func TestRoomsOfDetachedConn(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice, w := b.session("alice")
		b.joinAll(alice, "a", "b")
		alice.Drop()
		synctest.Wait()
		require.True(t, alice.conn.In("a"))
		left, err := alice.conn.Leave(t.Context(), "a")
		require.NoError(t, err)
		require.True(t, left)
		_, err = alice.conn.Join(t.Context(), "c")
		require.ErrorIs(t, err, realtime.ErrClosed)
		again, _ := b.session("alice")
		require.Equal(t, rooms("b"), again.resumes(w.Session))
		require.False(t, alice.conn.In("b"))
		left, err = alice.conn.Leave(t.Context(), "b")
		require.NoError(t, err)
		require.False(t, left, "it is another connection's")
		require.True(t, again.conn.In("b"))
	})
}

// All connections of a user join and leave a room, and no connection of another user does.
func TestRoomsOfUser(t *testing.T) {
	bubble(t, inboxes(10), func(t *testing.T, b *bed) {
		ctx := t.Context()
		n, err := b.User("alice").Join(ctx, "lobby")
		require.NoError(t, err)
		require.Zero(t, n, "offline")
		b.news(realtime.ToUser("alice"), "kept")
		n, err = b.User("alice").Join(ctx, "lobby")
		require.NoError(t, err)
		require.Zero(t, n, "only an inbox")

		one, two, bob := b.open("alice"), b.openV1(realtime.Identity{UserID: "alice"}), b.open("bob")
		lost, w := b.session("alice")
		lost.Drop()
		synctest.Wait()
		b.join("lobby", one)
		two.discard()
		n, err = b.User("alice").Join(ctx, "lobby")
		require.NoError(t, err)
		require.Equal(t, 1, n, "the one that was not in it")
		require.Equal(t, []string{`{"message_type":"joined","room":"lobby"}`}, two.raw())
		require.True(t, one.conn.In("lobby") && two.conn.In("lobby"))
		require.False(t, lost.conn.In("lobby") || bob.conn.In("lobby"))

		again, _ := b.session("alice")
		require.Equal(t, rooms([]string{}...), again.resumes(w.Session))
		b.join("lobby", again)
		token := "" // of a session that is detached when its user leaves
		gone, w := b.session("alice")
		token = w.Session
		b.join("lobby", gone)
		gone.Drop()
		synctest.Wait()
		n, err = b.User("alice").Leave(ctx, "lobby")
		require.NoError(t, err)
		require.Equal(t, 4, n)
		require.Empty(t, b.members("lobby"))
		last, _ := b.session("alice")
		require.Equal(t, rooms([]string{}...), last.resumes(token))
	})
}

// If one connection of a user cannot join, the others do.
func TestSomeConnsOfUserJoin(t *testing.T) {
	bubble(t, realtime.Options{Limits: realtime.Limits{RoomsPerConn: 1}}, func(t *testing.T, b *bed) {
		ctx := t.Context()
		one, full, two := b.open("alice"), b.open("alice"), b.open("alice")
		b.join("other", full)
		n, err := b.User("alice").Join(ctx, "lobby")
		require.ErrorIs(t, err, realtime.ErrTooManyRooms)
		require.Equal(t, 2, n)
		require.True(t, one.conn.In("lobby") && two.conn.In("lobby"))

		_, err = b.User("alice").Leave(ctx, "lobby")
		require.NoError(t, err)
		_, err = b.Room("vip").Deny(ctx, "alice", time.Minute)
		require.NoError(t, err)
		n, err = b.User("alice").Join(ctx, "vip")
		require.ErrorIs(t, err, realtime.ErrDenied)
		require.Zero(t, n)

		require.NoError(t, full.conn.Close(realtime.CloseNormal, ""))
		n, err = b.User("alice").Join(ctx, "lobby")
		require.NoError(t, err, "the full one has ended")
		require.Equal(t, 2, n)
	})
}

// A connection whose OnConnect has decided by what was stored before the user joined is put into
// the room as well, whether it is the first one of the user or not.
func TestConnOpensWhileUserJoins(t *testing.T) {
	for name, others := range map[string]int{"the first": 0, "another": 2} {
		t.Run(name, func(t *testing.T) {
			var decided, proceed chan struct{}
			o := realtime.Options{OnConnect: func(context.Context, *realtime.Conn) error {
				if decided != nil {
					close(decided)
					<-proceed
				}
				return nil
			}}
			bubble(t, o, func(t *testing.T, b *bed) {
				for range others {
					b.open("alice")
				}
				bob := b.open("bob")
				decided, proceed = make(chan struct{}), make(chan struct{})
				opened := make(chan *client)
				go func() { opened <- b.openV1(realtime.Identity{UserID: "alice"}) }()
				<-decided
				n, err := b.User("alice").Join(t.Context(), "lobby")
				require.NoError(t, err)
				require.Equal(t, others+1, n)
				require.Equal(t, others, len(b.connsOf("alice")), "it is not open yet")
				close(proceed)
				alice := <-opened
				require.True(t, alice.conn.In("lobby"))
				require.False(t, bob.conn.In("lobby"))
				require.Equal(t, []string{"alice"}, b.members("lobby"))
				require.Equal(t, "joined", alice.got()[1], "after the welcome")
			})
		})
	}
}

// gatedBroker opens no inbox before its gate is open.
type gatedBroker struct {
	*memory.Broker
	waiting, gate chan struct{}
}

func (g *gatedBroker) Cursor(ctx context.Context, stream, reader string) (broker.Position, error) {
	close(g.waiting)
	<-g.gate
	return g.Broker.Cursor(ctx, stream, reader)
}

// A connection that has no welcome yet is not put into the room: its OnConnect comes later.
func TestConnIsNotReadyWhenUserJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gatedBroker{memory.New(nil), make(chan struct{}), make(chan struct{})}
		o := inboxes(10)
		o.Broker = g
		b := newBed(t, o)
		opened := make(chan *client)
		go func() { opened <- b.openV1(realtime.Identity{UserID: "alice"}) }()
		<-g.waiting
		n, err := b.User("alice").Join(t.Context(), "lobby")
		require.NoError(t, err)
		require.Zero(t, n)
		close(g.gate)
		alice := <-opened
		require.Equal(t, []string{"welcome"}, alice.got())
		require.NoError(t, b.Close())
	})
}

// Room is the room of a target, if that is all the target is.
func TestRoomOfTarget(t *testing.T) {
	lobby := realtime.ToRoom("lobby")
	require.Equal(t, "lobby", lobby.Room())
	require.Equal(t, "lobby", lobby.Except("c").ExceptUser("u").Room())
	for _, other := range []realtime.Target{
		{}, realtime.ToAll(), realtime.ToUser("lobby"), realtime.ToConn("lobby"), realtime.ToRoom("a", "b"),
	} {
		require.Empty(t, other.Room())
		if len(other.Rooms)+len(other.Users)+len(other.Conns) > 0 || other.All {
			require.Empty(t, lobby.Union(other).Room())
		}
	}
}
