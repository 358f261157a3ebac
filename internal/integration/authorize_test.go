package integration_test

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

func TestNothingIsAllowedByDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := realtime.New(nil)
		b := &bed{rt, t}
		alice, bob := b.open("alice"), b.open("bob")
		b.join("lobby", alice, bob)
		alice.discard()
		bob.discard()
		for _, target := range []string{"all", "room", "bob", "alice"} {
			alice.say("x", target)
		}
		require.Empty(t, bob.got())
		require.Empty(t, alice.got(), "a refusal is not answered")
		require.EqualValues(t, 4, b.Stats().Denied)
		require.Zero(t, b.Stats().Messages)
		require.NoError(t, alice.Write([]byte("ping")))
		require.Equal(t, []string{"pong"}, alice.got())
		require.NoError(t, b.Close())
	})
}

func TestAuthorize(t *testing.T) {
	var asked diary
	o := realtime.Options{
		Authorize: func(ctx context.Context, c *realtime.Conn, a realtime.Action) error {
			if ctx != c.Context() {
				return errors.New("not the connection's context")
			}
			asked.write(string(a.Kind) + " " + strings.Join(append(a.Target.Rooms, a.Target.Users...), ","))
			if len(a.Target.Rooms) > 0 && a.Target.Rooms[0] == "secret" {
				return realtime.ErrForbidden
			}
			return nil
		},
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice, bob := b.open("alice"), b.open("bob")
		b.join("lobby", alice, bob)
		b.join("secret", bob)
		alice.discard()
		bob.discard()
		alice.say("1", "room")
		require.Equal(t, []string{"send lobby"}, asked.read(), "the current room")
		require.Equal(t, []string{"alice: 1"}, bob.got())
		bob.say("2", "room")
		require.Equal(t, []string{"send secret"}, asked.read())
		require.Empty(t, bob.got())
		bob.say("3", "alice")
		require.Equal(t, []string{"send alice"}, asked.read())
		require.EqualValues(t, 1, b.Stats().Denied)
	})
}

// The authorizer learns the type of a message: "chat" if the client names none.
func TestAuthorizeTypes(t *testing.T) {
	var asked diary
	o := realtime.Options{Authorize: func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
		asked.write(string(a.Kind) + " " + a.Type)
		if a.Type == "news" {
			return realtime.ErrForbidden
		}
		return nil
	}}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice, bob := b.openV1(realtime.Identity{UserID: "alice"}), b.open("bob")
		alice.discard()
		bob.say("1", "all")
		alice.discard()
		require.Len(t, alice.request(`{"type":"send","id":1,"user":"bob","content":2}`), 1)
		require.Contains(t, alice.request(`{"type":"send","id":1,"all":true,"message_type":"news"}`)[0], "forbidden")
		require.Contains(t, alice.request(`{"type":"send","id":1,"all":true,"message_type":"User_Left"}`)[0], "reserved")
		alice.request(`{"type":"join","id":1,"room":"r"}`)
		require.Equal(t, []string{"send chat", "send chat", "send news", "join "}, asked.read())
	})
}

// Without an authorizer, every request of a client and of a REST caller is refused.
func TestZeroValueRefusesEverything(t *testing.T) {
	var asked atomic.Int32
	bubble(t, realtime.Options{Authorize: func(context.Context, *realtime.Conn, realtime.Action) error {
		asked.Add(1)
		return realtime.ErrForbidden
	}}, func(t *testing.T, b *bed) { requireAllRefused(t, b) })
	require.EqualValues(t, 11, asked.Load(), "each is an action that could be allowed; a refresh is not")
	synctest.Test(t, func(t *testing.T) {
		b := &bed{newManager(t, realtime.Options{}), t}
		requireAllRefused(t, b)
		require.EqualValues(t, 11+4, b.Stats().Denied)
		require.NoError(t, b.Close())
	})
}

func requireAllRefused(t *testing.T, b *bed) {
	alice, v1, bob := b.open("alice"), b.openV1(realtime.Identity{UserID: "alice"}), b.open("bob")
	b.join("hall", bob)
	v1.discard()
	bob.discard()
	for _, target := range []string{"all", "room", "bob"} {
		alice.say("x", target)
	}
	for _, request := range []string{
		`{"type":"join","id":1,"room":"hall"}`, `{"type":"leave","id":1,"room":"hall"}`,
		`{"type":"send","id":1,"all":true}`, `{"type":"send","id":1,"room":"hall"}`,
		`{"type":"send","id":1,"user":"bob"}`, `{"type":"send","id":1,"conn":"` + bob.conn.ID() + `"}`,
		`{"type":"presence","id":1,"room":"hall"}`, `{"type":"call","id":1,"method":"anything"}`,
		`{"type":"refresh","id":1,"token":"x"}`,
	} {
		require.Equal(t, []string{`{"message_type":"error","id":1,"content":{"code":"forbidden","message":"forbidden"}}`},
			v1.request(request), request)
	}
	h := b.API(nil)
	for _, ask := range []restRequest{
		{method: "POST", path: "/connections/" + alice.conn.ID() + "/join", body: `{"room_id":"hall"}`},
		{method: "POST", path: "/connections/" + bob.conn.ID() + "/leave"},
		{method: "GET", path: "/rooms/hall/users"}, {method: "GET", path: "/stats"},
	} {
		code, _, _ := callREST(h, ask)
		require.Equal(t, http.StatusForbidden, code, "%+v", ask)
	}
	require.Empty(t, bob.got())
	require.Empty(t, alice.conn.Rooms())
	require.Equal(t, []string{"hall"}, bob.conn.Rooms())
	require.Zero(t, b.Stats().Messages)
}

// A client without permission does not learn whether a room, a user or a connection exists.
func TestForbiddenLooksLikeUnknown(t *testing.T) {
	forbid := func(context.Context, *realtime.Conn, realtime.Action) error { return realtime.ErrForbidden }
	bubble(t, realtime.Options{Authorize: forbid}, func(t *testing.T, b *bed) {
		v1, bob := b.openV1(realtime.Identity{UserID: "alice"}), b.open("bob")
		b.join("hall", bob)
		v1.discard()
		h := b.API(func(*http.Request, realtime.Action) error { return realtime.ErrForbidden })
		same := func(a, z restRequest) {
			codeA, bodyA, headerA := callREST(h, a)
			codeZ, bodyZ, headerZ := callREST(h, z)
			require.Equal(t, codeA, codeZ)
			require.Equal(t, bodyA, bodyZ)
			require.Equal(t, headerA, headerZ)
		}
		same(restRequest{method: "GET", path: "/rooms/hall/users"}, restRequest{method: "GET", path: "/rooms/none/users"})
		for _, verb := range []string{"join", "leave"} {
			same(restRequest{method: "POST", path: "/connections/" + bob.conn.ID() + "/" + verb, body: `{"room_id":"hall"}`},
				restRequest{method: "POST", path: "/connections/conn_none/" + verb, body: `{"room_id":"none"}`})
		}
		for _, verb := range []string{"join", "leave"} {
			require.Equal(t, v1.request(`{"type":"`+verb+`","id":1,"room":"hall"}`), v1.request(`{"type":"`+verb+`","id":1,"room":"none"}`))
		}
		for _, there := range []string{`"room":"hall"`, `"user":"bob"`, `"conn":"` + bob.conn.ID() + `"`} {
			none := regexp.MustCompile(`:"[^"]+"`).ReplaceAllString(there, `:"none"`)
			require.Equal(t, v1.request(`{"type":"send","id":1,`+there+`}`), v1.request(`{"type":"send","id":1,`+none+`}`))
		}
	})
	// A client with permission does not learn whether a user received the message.
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		v1, bob := b.openV1(realtime.Identity{UserID: "alice"}), b.open("bob")
		b.join("hall", bob)
		v1.discard()
		require.Equal(t, v1.request(`{"type":"send","id":1,"user":"bob"}`), v1.request(`{"type":"send","id":1,"user":"none"}`))
	})
}

// The server waits a limited time for a body. The authorizer may take longer.
func TestSlowAuthorizerOfREST(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt, f := realtime.New(nil), pipes()
		server := realtime.NewServer("", rt.API(func(r *http.Request, _ realtime.Action) error {
			time.Sleep(time.Minute)
			return r.Context().Err()
		}))
		go func() { _ = server.Serve(f) }()
		client := http.Client{Transport: &http.Transport{DialContext: f.dial}}
		res, err := client.Post("http://site.example/connections/x/join", "application/json",
			strings.NewReader(`{"room_id":"lobby"}`))
		require.NoError(t, err)
		require.Equal(t, http.StatusBadRequest, res.StatusCode, "allowed: no such connection")
		require.NoError(t, res.Body.Close())
		client.CloseIdleConnections()
		require.NoError(t, server.Close())
		require.NoError(t, rt.Close())
	})
}
