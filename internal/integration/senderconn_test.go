package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// connsIn returns the connections that the messages in frames say they were sent from. Empty: a
// message does not say.
func connsIn(t *testing.T, frames []string) (conns []string) {
	t.Helper()
	for _, frame := range frames {
		var m struct {
			Type string `json:"message_type"`
			Conn string
		}
		frame = strings.Replace(frame, `"timestamp":T`, `"timestamp":0`, 1)
		require.NoError(t, json.Unmarshal([]byte(frame), &m), frame)
		if m.Type == "chat" {
			conns = append(conns, m.Conn)
		}
	}
	return conns
}

// keepsAll returns Options by which rooms and users keep messages.
func keepsAll() realtime.Options {
	o := keeping(100)
	o.Inbox.Keep = realtime.Retention{Messages: 100}
	return o
}

// The receivers of a message learn the connection of its sender if they are named as users and
// connections only, whether or not the message is kept. Plain clients never learn it.
func TestConnOfSender(t *testing.T) {
	for name, o := range map[string]realtime.Options{
		"kept": keepsAll(), "rooms keep": keeping(100), "inboxes": inboxes(100), "not kept": {},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, o, func(t *testing.T, b *bed) {
				bob, carol := b.openV1(realtime.Identity{UserID: "bob"}), b.openV1(realtime.Identity{UserID: "carol"})
				plain := b.open("bob")
				b.join("hall", bob, plain)
				carol.discard()
				user, room := realtime.ToUser("bob"), realtime.ToRoom("hall")
				conn, all := realtime.ToConn(carol.conn.ID()), realtime.ToAll()
				for _, test := range []struct {
					to         realtime.Target
					bob, carol []string
				}{
					{user, []string{"c1"}, nil}, {conn, nil, []string{"c1"}},
					{user.Union(conn), []string{"c1"}, []string{"c1"}},
					{realtime.ToUser("bob", "carol"), []string{"c1"}, []string{"c1"}},
					{user.Union(conn).Except(carol.conn.ID()), []string{"c1"}, nil},
					{room, []string{""}, nil}, {all, []string{""}, []string{""}},
					{user.Union(room), []string{""}, nil}, {user.Union(all), []string{""}, []string{""}},
					{conn.Union(room), []string{""}, []string{""}},
					{realtime.ToUser("carol").Union(realtime.ToRoom("hall", "other")), []string{""}, []string{""}},
				} {
					_, err := b.Send(t.Context(), test.to, realtime.Message{Conn: "c1"})
					require.NoError(t, err)
					require.Equal(t, test.bob, connsIn(t, bob.raw()), "%+v", test.to)
					require.Equal(t, test.carol, connsIn(t, carol.raw()), "%+v", test.to)
				}
				require.NotContains(t, strings.Join(plain.raw(), ""), "c1")
			})
		})
	}
}

// The Manager sets the connection of each message and call of a client, and the application can
// exclude it from the receivers.
func TestConnOfClients(t *testing.T) {
	var heard diary
	var r realtime.Router
	r.Use(func(next realtime.Handler) realtime.Handler {
		return func(ctx context.Context, c *realtime.Conn, in realtime.Inbound) (any, error) {
			heard.write(fmt.Sprint(in.Message.Conn == c.ID()))
			return next(ctx, c, in)
		}
	})
	realtime.On(&r, "chat", func(ctx context.Context, c *realtime.Conn, in realtime.Inbound, _ any) error {
		_, err := c.Manager().Send(ctx, in.Target.Except(in.Message.Conn), in.Message)
		return err
	})
	realtime.Handle(&r, "m", func(context.Context, *realtime.Conn, any) (any, error) { return nil, nil })
	o := realtime.Options{OnMessage: r.OnMessage}
	bubble(t, o, func(t *testing.T, b *bed) {
		one, two := b.openV1(realtime.Identity{UserID: "alice"}), b.openV1(realtime.Identity{UserID: "alice"})
		plain, guest := b.open("carol"), b.openV1(realtime.Identity{})
		one.discard()
		two.discard()
		require.Empty(t, connsIn(t, one.request(`{"type":"send","user":"alice"}`)), "not to itself")
		require.Equal(t, []string{one.conn.ID()}, connsIn(t, two.raw()))
		plain.say("hi", "alice")
		require.Equal(t, []string{plain.conn.ID()}, connsIn(t, two.raw()))
		one.discard()
		guest.request(`{"type":"send","conn":"` + two.conn.ID() + `","content":1}`)
		frames := two.raw()
		require.Equal(t, []string{guest.conn.ID()}, connsIn(t, frames))
		require.Contains(t, frames[0], `"guest":`)
		one.request(`{"type":"call","id":1,"method":"m"}`)
		require.Equal(t, []string{"true", "true", "true", "true"}, heard.read())
	})
}

// A message in an inbox says the connection that it was sent from at that time, also after the
// session of the sender was resumed. A message to rooms as well does not say it, and neither do the
// messages that a room keeps.
func TestConnOfKeptMessage(t *testing.T) {
	bubble(t, keepsAll(), func(t *testing.T, b *bed) {
		alice, w := b.session("alice")
		was := alice.conn.ID()
		alice.request(`{"type":"join","id":1,"room":"hall"}`)
		alice.request(`{"type":"send","user":"bob","content":1}`)
		alice.request(`{"type":"send","room":"hall","content":2}`)
		both := realtime.ToUser("bob").Union(realtime.ToRoom("hall"))
		_, err := b.Send(t.Context(), both, realtime.Message{Conn: was})
		require.NoError(t, err)
		alice.Drop()
		synctest.Wait()
		again, _ := b.session("alice")
		require.Contains(t, again.resumes(w.Session), `"rooms":["hall"]`)

		bob := b.openV1(realtime.Identity{UserID: "bob"})
		require.Equal(t, []string{was, ""}, connsIn(t, bob.raw()))
		page := bob.request(`{"type":"history","id":1,"room":"hall"}`)[0]
		require.Contains(t, page, `"content":2`)
		require.NotContains(t, page, was)
		h, err := b.Room("hall").History(t.Context(), realtime.HistoryQuery{})
		require.NoError(t, err)
		require.Equal(t, was, h.Messages[0].Conn, "the application learns it")
		joined := bob.request(`{"type":"join","id":2,"room":"hall","history":2}`)
		require.Equal(t, []string{""}, connsIn(t, joined), "it has the other one already")

		require.Zero(t, b.news(realtime.ToConn(was), "late").Matched)
		require.Zero(t, b.news(realtime.ToUser("alice").Except(was), "not to alice").Matched)
		again.request(`{"type":"send","user":"bob","content":3}`)
		require.Equal(t, []string{again.conn.ID()}, connsIn(t, bob.raw()))
	})
}

// A connection that no message can have come from is refused.
func TestInvalidConnOfSender(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		for _, conn := range []string{" ", "\n", "\xff", strings.Repeat("x", 256)} {
			_, err := b.Send(t.Context(), realtime.ToAll(), realtime.Message{Conn: conn})
			require.ErrorIs(t, err, realtime.ErrInvalidName, "%q", conn)
		}
	})
}
