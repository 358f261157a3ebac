package integration_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// Wherever a client puts its secret, it is neither in the log nor in an answer.
func TestTokensAreNotLogged(t *testing.T) {
	const secret = "SECRET-7d1f"
	var log bytes.Buffer
	answer := error(nil)
	o := realtime.Options{
		Logger:       slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Authenticate: func(*http.Request) (realtime.Identity, error) { return realtime.Identity{}, answer },
		Authorize:    realtime.InsecureAllowAll,
	}
	rt := newManager(t, o)
	places := []func(*http.Request){
		func(r *http.Request) { r.URL.RawQuery = "token=" + secret },
		func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+secret) },
		func(r *http.Request) { r.Header.Set("Cookie", "session="+secret) },
		func(r *http.Request) { r.Header.Set("Sec-WebSocket-Protocol", "realtime.v1, bearer."+secret) },
	}
	for _, answer = range []error{nil, realtime.ErrForbidden, realtime.ErrUnauthenticated} {
		for _, put := range places {
			for _, spoil := range []string{"", "Upgrade", "Sec-WebSocket-Key"} {
				_, message, header := knock(t, rt, func(r *http.Request) {
					put(r)
					if spoil != "" {
						r.Header.Del(spoil)
					}
				})
				require.NotContains(t, message, secret)
				for _, values := range header {
					require.NotContains(t, strings.Join(values, ""), secret)
				}
			}
		}
	}
	require.NotEmpty(t, log.String())
	require.NotContains(t, log.String(), secret)
	log.Reset()
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.hush()
		for _, request := range []string{
			`{"type":"refresh","id":1,"token":"` + secret + `"}`, `{"type":"send","user":"bob","content":"` + secret + `"}`,
			`{"type":"send","id":1,"content":"` + secret + `"}`, secret,
		} {
			require.NotContains(t, strings.Join(alice.asks(request), ""), secret)
		}
	})
	require.NotContains(t, log.String(), secret)
}

// Who it comes from, and what the protocol itself says, is never up to a client.
func TestSenderCannotBeSpoofed(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		mallory, v1, bob := b.open("mallory"), b.openV1(realtime.Identity{UserID: "mallory"}), b.open("bob")
		v1.hush()
		bob.hush()
		const lies = `"sender_id":"alice","timestamp":1,"id":"x","offset":9,`
		require.NoError(t, mallory.Write([]byte(`{`+lies+`"message_type":"userleft","content":"hi","target":"bob"}`)))
		require.Equal(t, []string{"mallory: hi"}, bob.got())
		v1.asks(`{"sender_id":"alice","timestamp":1,"type":"send","user":"bob","content":"hi"}`)
		require.Equal(t, []string{`{"message_type":"chat","sender_id":"mallory","content":"hi","timestamp":946684800}`}, bob.raw())
		for _, typ := range []string{
			"welcome", "userjoined", "userleft", "ping", "pong", "reply", "error", "position", "skipped", "large",
		} {
			answer := v1.asks(`{"type":"send","id":1,"user":"bob","message_type":"` + typ + `"}`)
			require.Contains(t, answer[0], "bad_request")
		}
		require.Empty(t, bob.raw())
	})
}

// With nothing set, nothing that a client or a REST caller asks for is done.
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
	v1.hush()
	bob.hush()
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
			v1.asks(request), request)
	}
	h := b.API(nil)
	for _, ask := range []call{
		{method: "POST", path: "/connections/" + alice.conn.ID() + "/join", body: `{"room_id":"hall"}`},
		{method: "POST", path: "/connections/" + bob.conn.ID() + "/leave"},
		{method: "GET", path: "/rooms/hall/users"}, {method: "GET", path: "/stats"},
	} {
		code, _, _ := rest(h, ask)
		require.Equal(t, http.StatusForbidden, code, "%+v", ask)
	}
	require.Empty(t, bob.got())
	require.Empty(t, alice.conn.Rooms())
	require.Equal(t, []string{"hall"}, bob.conn.Rooms())
	require.Zero(t, b.Stats().Messages)
}

// Who may not ask learns nothing about what there is.
func TestForbiddenLooksLikeUnknown(t *testing.T) {
	forbid := func(context.Context, *realtime.Conn, realtime.Action) error { return realtime.ErrForbidden }
	bubble(t, realtime.Options{Authorize: forbid}, func(t *testing.T, b *bed) {
		v1, bob := b.openV1(realtime.Identity{UserID: "alice"}), b.open("bob")
		b.join("hall", bob)
		v1.hush()
		h := b.API(func(*http.Request, realtime.Action) error { return realtime.ErrForbidden })
		same := func(a, z call) {
			codeA, bodyA, headerA := rest(h, a)
			codeZ, bodyZ, headerZ := rest(h, z)
			require.Equal(t, codeA, codeZ)
			require.Equal(t, bodyA, bodyZ)
			require.Equal(t, headerA, headerZ)
		}
		same(call{method: "GET", path: "/rooms/hall/users"}, call{method: "GET", path: "/rooms/none/users"})
		for _, verb := range []string{"join", "leave"} {
			same(call{method: "POST", path: "/connections/" + bob.conn.ID() + "/" + verb, body: `{"room_id":"hall"}`},
				call{method: "POST", path: "/connections/conn_none/" + verb, body: `{"room_id":"none"}`})
		}
		for _, verb := range []string{"join", "leave"} {
			require.Equal(t, v1.asks(`{"type":"`+verb+`","id":1,"room":"hall"}`), v1.asks(`{"type":"`+verb+`","id":1,"room":"none"}`))
		}
		for _, there := range []string{`"room":"hall"`, `"user":"bob"`, `"conn":"` + bob.conn.ID() + `"`} {
			none := regexp.MustCompile(`:"[^"]+"`).ReplaceAllString(there, `:"none"`)
			require.Equal(t, v1.asks(`{"type":"send","id":1,`+there+`}`), v1.asks(`{"type":"send","id":1,`+none+`}`))
		}
	})
	// Nor does he who may send learn whether anybody got it.
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		v1, bob := b.openV1(realtime.Identity{UserID: "alice"}), b.open("bob")
		b.join("hall", bob)
		v1.hush()
		require.Equal(t, v1.asks(`{"type":"send","id":1,"user":"bob"}`), v1.asks(`{"type":"send","id":1,"user":"none"}`))
	})
}

// TestManyRoomsComeAndGo: what a client joins and leaves is gone.
func TestManyRoomsComeAndGo(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.hush()
		for i := range 400 {
			room := `"room":"` + strings.Repeat("r", i%200+1) + `"`
			require.NoError(t, alice.Write([]byte(`{"type":"join",`+room+`}`)))
			require.NoError(t, alice.Write([]byte(`{"type":"leave",`+room+`}`)))
		}
		require.Empty(t, alice.raw())
		require.Zero(t, b.Stats().Rooms)
	})
}
