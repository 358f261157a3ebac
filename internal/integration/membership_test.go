package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// A client receives a joined frame for each room that the application puts it into. The frame has
// the position in the room and comes before the messages of the room. For its own request the
// client receives only the answer.
func TestJoinedFrame(t *testing.T) {
	bubble(t, keeping(100), func(t *testing.T, b *bed) {
		b.sendWords(1, 2)
		alice, w := b.session("alice")
		joined, err := b.Join(t.Context(), alice.conn.ID(), "hall")
		require.NoError(t, err)
		require.True(t, joined)
		b.sendWords(3, 3)
		frames := alice.raw()
		require.Len(t, frames, 2)
		require.Regexp(t,
			`^\{"message_type":"joined","room":"hall","content":\{"epoch":"[^"]+","offset":2,"top":2\}\}$`, frames[0])
		require.Contains(t, frames[1], `"offset":3,"prev":2`)

		joined, err = b.Join(t.Context(), alice.conn.ID(), "hall")
		require.NoError(t, err)
		require.False(t, joined)
		require.Empty(t, alice.raw(), "no second frame")
		require.Len(t, alice.request(`{"type":"join","id":3,"room":"own"}`), 1, "the answer")
		_, err = b.Leave(t.Context(), alice.conn.ID(), "hall")
		require.NoError(t, err)
		require.Equal(t, []string{`{"message_type":"left","room":"hall"}`}, alice.raw())

		_, err = alice.conn.JoinFrom(t.Context(), "hall", realtime.From{Last: 2})
		require.NoError(t, err)
		frames = alice.raw()
		require.Len(t, frames, 3)
		require.Contains(t, frames[0], `"offset":1,"top":3}}`)

		restPost(t, b.API(func(*http.Request, realtime.Action) error { return nil }), alice.conn.ID(), "join",
			`{"room_id":"rest"}`)
		require.Contains(t, alice.raw()[0], `{"message_type":"joined","room":"rest","content":{"epoch":`)
		alice.Drop()
		synctest.Wait()

		again, _ := b.session("alice")
		frames = again.request(fmt.Sprintf(`{"type":"resume","id":1,"session":%q}`, w.Session))
		require.Len(t, frames, 3, "rooms from the application, before the answer")
		require.Contains(t, frames[0], `{"message_type":"joined","room":"hall","content":{"epoch":`)
		require.Contains(t, frames[1], `{"message_type":"joined","room":"rest","content":{"epoch":`)
		require.Equal(t, rooms("own", "hall", "rest"), frames[2])
	})
}

// The joined frame of a room without history has no position. A plain client receives no joined
// frame.
func TestJoinedFrameWithoutHistory(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice, plain := b.openV1(realtime.Identity{UserID: "alice"}), b.open("bob")
		alice.discard()
		plain.discard()
		for _, c := range []*client{alice, plain} {
			_, err := b.Join(t.Context(), c.conn.ID(), "hall")
			require.NoError(t, err)
		}
		require.Equal(t, []string{`{"message_type":"joined","room":"hall"}`}, alice.raw())
		require.Empty(t, plain.raw())
		frames := alice.recovers(realtime.Position{Epoch: "r1", Offset: 3})
		require.Equal(t, []string{
			`{"message_type":"reply","id":2,"content":{"recovered":false,"reason":"unknown"}}`,
		}, frames)
	})
}

// A connection that is put into more rooms than its send queue has places stays open.
func TestJoinedFramesEndNoConnection(t *testing.T) {
	o := keeping(10)
	o.Limits.QueueMessages, o.Limits.RoomsPerConn = 16, -1
	bubble(t, o, func(t *testing.T, b *bed) {
		transport, far := realtime.Pipe(realtime.V1)
		alice := b.attach(transport, far, realtime.Identity{UserID: "alice"})
		for i := range 200 {
			_, err := b.Join(t.Context(), alice.conn.ID(), fmt.Sprint("r", i))
			require.NoError(t, err)
		}
		alice.unstall()
		require.Len(t, alice.raw(), 201)
		require.Nil(t, alice.ended())
	})
}

// The answer to a leave request comes before the frames of what the application does next, so the
// client knows which membership holds.
func TestLeaveIsAnsweredInOrder(t *testing.T) {
	o := realtime.Options{Limits: realtime.Limits{InboundRate: -1}}
	b := newBed(t, o)
	transport, far := realtime.Pipe(realtime.V1)
	c, err := b.Register(t.Context(), transport, realtime.Identity{UserID: "alice"})
	require.NoError(t, err)
	_, _, err = far.Read(t.Context())
	require.NoError(t, err)
	for range 300 {
		_, err := b.Join(t.Context(), c.ID(), "hall")
		require.NoError(t, err)
		_, _, err = far.Read(t.Context())
		require.NoError(t, err)
		require.NoError(t, far.Write([]byte(`{"type":"leave","id":1,"room":"hall"}`)))
		for again := false; !again; {
			again, err = b.Join(t.Context(), c.ID(), "hall")
			require.NoError(t, err)
		}
		p, _, err := far.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, `{"message_type":"reply","id":1}`, string(p))
		p, _, err = far.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, `{"message_type":"joined","room":"hall"}`, string(p))
		_, err = b.Leave(t.Context(), c.ID(), "hall")
		require.NoError(t, err)
		_, _, err = far.Read(t.Context())
		require.NoError(t, err)
	}
	require.NoError(t, b.Close())
}

// A client receives a left frame when it is taken out of a room by another party, in the order of
// the events.
func TestLeftFrame(t *testing.T) {
	allowed := true
	o := realtime.Options{
		Authorize: func(context.Context, *realtime.Conn, realtime.Action) error {
			if !allowed {
				return realtime.ErrForbidden
			}
			return nil
		},
		Revalidate: func(_ context.Context, c *realtime.Conn, _ string) (realtime.Identity, error) {
			return c.Identity(), nil
		},
	}
	const left, done = `{"message_type":"left","room":"lobby"}`, `{"message_type":"reply","id":1}`
	bubble(t, o, func(t *testing.T, b *bed) {
		alice, plain := b.openV1(realtime.Identity{UserID: "alice"}), b.open("bob")
		alice.discard()
		plain.discard()
		ctx, join := t.Context(), `{"type":"join","id":1,"room":"lobby"}`

		require.Equal(t, []string{done}, alice.request(join))
		_, err := b.Leave(ctx, alice.conn.ID(), "lobby")
		require.NoError(t, err)
		require.Equal(t, []string{left, done}, alice.request(join))
		require.Equal(t, []string{done}, alice.request(`{"type":"leave","id":1,"room":"lobby"}`), "its own request")
		_, err = b.Leave(ctx, alice.conn.ID(), "lobby")
		require.NoError(t, err)
		require.Equal(t, []string{done}, alice.request(join), "it was not in it")

		_, err = b.Room("lobby").Remove(ctx, "alice")
		require.NoError(t, err)
		require.Equal(t, []string{left, done}, alice.request(join))
		allowed = false
		require.Equal(t, []string{left, done}, alice.request(`{"type":"refresh","id":1,"token":"t"}`))

		allowed = true
		h := b.API(realtime.InsecureAllowRequests)
		for _, room := range []string{"lobby", "attic", ""} {
			ask := restRequest{method: "POST", path: "/connections/" + alice.conn.ID() + "/join", body: `{"room_id":"` + room + `"}`}
			if room == "" {
				ask = restRequest{method: "POST", path: "/connections/" + alice.conn.ID() + "/leave"}
			}
			code, _, _ := callREST(h, ask)
			require.Equal(t, http.StatusOK, code)
		}
		require.Equal(t, []string{
			`{"message_type":"joined","room":"lobby"}`, left,
			`{"message_type":"joined","room":"attic"}`, `{"message_type":"left","room":"attic"}`,
		}, alice.raw())

		_, err = b.Join(ctx, plain.conn.ID(), "lobby")
		require.NoError(t, err)
		_, err = b.Leave(ctx, plain.conn.ID(), "lobby")
		require.NoError(t, err)
		require.Empty(t, plain.raw())
	})
}
