package integration_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

func TestSendTargets(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice, alice2, bob, carol := b.open("alice"), b.open("alice"), b.open("bob"), b.open("carol")
		anon := b.open("")
		b.join("x", alice, bob, anon)
		b.join("y", bob, carol)
		clients := map[string]*client{
			"alice": alice, "alice2": alice2, "bob": bob, "carol": carol, "anon": anon,
		}
		for _, c := range clients {
			c.discard()
		}
		type names = []string
		everybody := names{"alice", "alice2", "bob", "carol", "anon"}
		for _, test := range []struct {
			name    string
			to      realtime.Target
			want    names
			offline int
		}{
			{"nobody", realtime.Target{}, nil, 0},
			{"all", realtime.ToAll(), everybody, 0},
			{"room", realtime.ToRoom("x"), names{"alice", "bob", "anon"}, 0},
			{"empty room", realtime.ToRoom("z"), nil, 0},
			{"rooms, once each", realtime.ToRoom("x", "y", "x", "z"), names{"alice", "bob", "anon", "carol"}, 0},
			{"user", realtime.ToUser("alice"), names{"alice", "alice2"}, 0},
			{"users", realtime.ToUser("alice", "bob", "dave", "dave"), names{"alice", "alice2", "bob"}, 1},
			{"connection", realtime.ToConn(anon.conn.ID()), names{"anon"}, 0},
			{"connections", realtime.ToConn(anon.conn.ID(), bob.conn.ID(), "conn_x", bob.conn.ID()),
				names{"anon", "bob"}, 0},
			{"union", realtime.ToRoom("y").Union(realtime.ToUser("bob", "alice")),
				names{"bob", "carol", "alice", "alice2"}, 0},
			{"union of all kinds", realtime.ToAll().Union(realtime.ToRoom("x")).
				Union(realtime.ToUser("eve")).Union(realtime.ToConn(bob.conn.ID())), everybody, 1},
			{"all and users", realtime.ToAll().Union(realtime.ToUser("eve", "bob")), everybody, 1},
			{"all but a connection", realtime.ToAll().Except(alice.conn.ID(), "conn_x"),
				names{"alice2", "bob", "carol", "anon"}, 0},
			{"room but a user", realtime.ToRoom("x").ExceptUser("alice", ""), names{"bob", "anon"}, 0},
			{"exceptions hold for the whole union",
				realtime.ToRoom("x").ExceptUser("bob").Union(realtime.ToRoom("y").Except(alice.conn.ID())),
				names{"anon", "carol"}, 0},
		} {
			res := b.news(test.to, "n")
			got := names{}
			for name, c := range clients {
				for range c.got() {
					got = append(got, name)
				}
			}
			require.ElementsMatch(t, test.want, got, test.name)
			require.Equal(t, realtime.Result{
				Matched: len(test.want), Queued: len(test.want), Offline: test.offline,
			}, res, test.name)
		}
	})
}

func TestTargetIsAValue(t *testing.T) {
	base := realtime.ToRoom("a")
	one, two := base.Except("1"), base.Except("2")
	require.Equal(t, []string{"1"}, one.ExceptConns)
	require.Equal(t, []string{"2"}, two.ExceptConns)
	require.Empty(t, base.ExceptConns)
	users := []string{"b", "a", "b"}
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		b.news(realtime.ToUser(users...), "x")
		require.Equal(t, []string{"b", "a", "b"}, users, "the caller's slice is not written")
	})
}

func TestSendChecksTheMessage(t *testing.T) {
	bubble(t, realtime.Options{Limits: realtime.Limits{QueueBytes: 1000}}, func(t *testing.T, b *bed) {
		alice := b.open("alice")
		alice.discard()
		for _, test := range []struct {
			msg  realtime.Message
			want error
		}{
			{realtime.Message{}, nil},
			{realtime.Message{Content: []byte(`{"a":[1,"x"]}`)}, nil},
			{realtime.Message{Type: "news", Sender: "bob"}, nil},
			{realtime.Message{Type: "userjoined"}, realtime.ErrInvalidName},
			{realtime.Message{Type: "a\nb"}, realtime.ErrInvalidName},
			{realtime.Message{Sender: "a\x00b"}, realtime.ErrInvalidName},
			{realtime.Message{Content: []byte(`{`)}, realtime.ErrInvalidMessage},
			{realtime.Message{Content: []byte("\"\xff\"")}, realtime.ErrInvalidMessage},
			{realtime.Message{Content: make([]byte, 2000)}, realtime.ErrTooLarge},
		} {
			_, err := b.Send(t.Context(), realtime.ToAll(), test.msg)
			require.ErrorIs(t, err, test.want)
		}
		require.Equal(t, []string{"chat null", `chat {"a":[1,"x"]}`, "news null"}, alice.got())
		require.EqualValues(t, 3, b.Stats().Messages)
	})
}

// An exception with an invalid name, such as the empty user id of an anonymous connection, excludes
// no connection.
func TestExceptInvalidNames(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		b.open("alice")
		guest := b.open("")
		require.Equal(t, 2, b.news(realtime.ToAll().ExceptUser(guest.conn.UserID()), "x").Matched)
		require.Equal(t, 2, b.news(realtime.ToAll().Except("").ExceptUser("all"), "x").Matched)
	})
}

func TestExceptClosingConnection(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice := b.open("alice")
		require.NoError(t, alice.conn.Close(4000, ""))
		require.Zero(t, b.news(realtime.ToAll().Except(alice.conn.ID()), "x").Matched)
	})
}
