package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

var timestamp = regexp.MustCompile(`"timestamp":\d+`)

// asks sends a request and returns the frames that come of it, with T for each time.
func (c *client) asks(request string) []string {
	c.t.Helper()
	require.NoError(c.t, c.Write([]byte(request)))
	frames := append([]string{}, c.raw()...)
	for i := range frames {
		frames[i] = timestamp.ReplaceAllString(frames[i], `"timestamp":T`)
	}
	return frames
}

func TestV1Requests(t *testing.T) {
	bubble(t, announced(), func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		require.Regexp(t, `^\{"message_type":"welcome","sender_id":null,"content":\{"connection_id":"conn_[-0-9a-f]+",`+
			`"message":"Connected successfully","user_id":"alice","max_message_bytes":65536,"reconnect_ms":0,`+
			`"session":"conn_[-0-9a-f]+\.[-_0-9A-Za-z]{22}","resume_ms":15000\},"timestamp":\d+\}$`, alice.raw()[0])
		bob := b.open("bob")
		alice.hush()
		id := alice.conn.ID()
		const joined = `{"message_type":"systemnotification","sender_id":"alice","content":{"type":"room_join",` +
			`"user_id":"alice","room_id":"lobby","message":"User joined room lobby"},"timestamp":T,"room":"lobby"}`
		chat := func(room string) string {
			return `{"message_type":"chat","sender_id":"alice","content":{"x":[1]},"timestamp":T` + room + `}`
		}
		for _, step := range []struct {
			request string
			want    []string
		}{
			{`ping`, []string{`pong`}},
			{`{"type":"ping","id":0}`, []string{`{"message_type":"reply","id":0}`}},
			{`{"type":"join","id":1,"room":"lobby"}`, []string{joined, `{"message_type":"reply","id":1}`}},
			{`{"type":"join","id":"again","room":"lobby"}`, []string{`{"message_type":"reply","id":"again"}`}},
			{
				`{"type":"send","id":2,"room":"lobby","content":{"x":[1]}}`,
				[]string{chat(`,"room":"lobby"`), `{"message_type":"reply","id":2}`},
			},
			{`{"type":"send","all":true,"content":{"x":[1]}}`, []string{chat("")}},
			{`{"type":"send","user":"alice","content":{"x":[1]}}`, []string{chat("")}},
			{`{"type":"send","conn":"` + id + `","content":{"x":[1]}}`, []string{chat("")}},
			{
				`{"type":"send","all":true,"message_type":"move","content":null}`,
				[]string{`{"message_type":"move","sender_id":"alice","content":null,"timestamp":T}`},
			},
			{`{"type":"leave","id":3,"room":"lobby"}`, []string{`{"message_type":"reply","id":3}`}},
			{`{"type":"send","room":"lobby","content":1}`, []string{}},
		} {
			require.Equal(t, step.want, alice.asks(step.request), step.request)
		}
		require.Equal(t, []string{
			"welcome", `chat {"x":[1]}`, "move null",
		}, bob.got(), "what all get, in the plain protocol")
	})
}

func TestV1Errors(t *testing.T) {
	o := realtime.Options{MaxRoomsPerConn: 1, Authorize: func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
		if a.Room == "secret" || len(a.Target.Rooms) > 0 && a.Target.Rooms[0] == "secret" {
			return errors.New("a detail for the log")
		}
		return nil
	}, OnMessage: func(_ context.Context, _ *realtime.Conn, in realtime.Inbound) error {
		if in.Message.Type == "fail" {
			return fmt.Errorf("a secret of the application: %w", realtime.ErrName)
		}
		return nil
	}}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.hush()
		fails := func(request, id, code, message string) {
			t.Helper()
			want := `{"message_type":"error","id":` + id + `,"content":{"code":"` + code + `","message":"` + message + `"}}`
			require.Equal(t, []string{want}, alice.asks(request))
		}
		fails(`{"type":"join","id":1,"room":"secret"}`, "1", "forbidden", "forbidden")
		fails(`{"type":"send","id":1,"room":"secret"}`, "1", "forbidden", "forbidden")
		fails(`{"type":"leave","id":1,"room":"secret"}`, "1", "forbidden", "forbidden")
		fails(`{"type":"refresh","id":1,"token":"x"}`, "1", "forbidden", "forbidden")
		require.EqualValues(t, 3, b.Stats().Denied)
		fails(`{"type":"join","id":"x","room":""}`, `"x"`, "bad_request", "room: invalid name: empty")
		fails(`{"type":"dance","id":1}`, "1", "unknown_type", `unknown type \"dance\"`)
		fails(`{"id":1}`, "1", "bad_request", "not a JSON object with a type")
		fails(`[]`, "null", "bad_request", "not a JSON object")
		fails(`hello`, "null", "bad_request", "not a JSON object")
		fails(`{"type":"join","type":"leave"}`, "null", "bad_request", "duplicate key")
		fails(`{"type":"join","id":{}}`, "null", "bad_request", "id must be a string or a number of at most 64 bytes")
		fails(`{"type":"join","id":"`+strings.Repeat("x", 63)+`"}`, "null", "bad_request",
			"id must be a string or a number of at most 64 bytes")
		fails(`{"type":"join","id":1,"room":7}`, "1", "bad_request", "a member has the wrong type")
		fails(`{"type":"send","id":1,"all":1}`, "1", "bad_request", "a member has the wrong type")
		fails(`{"type":"send","id":1}`, "1", "bad_request", "want one of room, user, conn, or all: true")
		fails(`{"type":"send","id":1,"all":true,"room":"r"}`, "1", "bad_request", "want one of room, user, conn, or all: true")
		fails(`{"type":"send","id":1,"all":true,"message_type":"welcome"}`, "1", "bad_request",
			`message_type: invalid name: message type \"welcome\" is reserved`)
		fails(`{"type":"send","id":1,"all":true,"message_type":"systemnotification"}`, "1", "bad_request",
			`message_type: invalid name: message type \"systemnotification\" is reserved`)
		for _, word := range []string{"Welcome", "user_joined", "System Notification", "P-O-S-I-T-I-O-N", "pong!"} {
			fails(`{"type":"send","id":1,"all":true,"message_type":"`+word+`"}`, "1", "bad_request",
				`message_type: invalid name: message type \"`+word+`\" is reserved`)
		}
		for _, content := range []string{`"\ud800"`, `{"a":["\\\"\uDBFF x"]}`, `{"\udc00":1}`} {
			fails(`{"type":"send","id":1,"all":true,"content":`+content+`}`, "1", "bad_request",
				"content has half of a surrogate pair")
			fails(`{"type":"call","id":1,"method":"m","content":`+content+`}`, "1", "bad_request",
				"content has half of a surrogate pair")
		}
		fails(`{"type":"send","id":1,"user":"all"}`, "1", "bad_request", `user: invalid name: \"all\" is reserved`)
		fails(`{"type":"join","id":1,"room":"a","room":"b"}`, "1", "bad_request", "duplicate key")
		fails(`{"content":`+strings.Repeat("[", 64)+strings.Repeat("]", 64)+`,"type":"send","id":"late"}`, `"late"`,
			"bad_request", "nested too deep")
		fails(`{"type":"refresh","id":1}`, "1", "bad_request", "no token")
		fails(`{"type":"send","id":1,"all":true,"message_type":"fail"}`, "1", "internal", "internal error")
		require.EqualValues(t, 1, b.Stats().Failed)
		require.Empty(t, alice.asks(`{"type":"join","room":"one"}`))
		fails(`{"type":"join","id":1,"room":"two"}`, "1", "limit", "too many rooms")
		_, err := b.Room("one").Deny(t.Context(), "alice", time.Minute)
		require.NoError(t, err)
		require.Equal(t, []string{`{"message_type":"left","room":"one"}`}, alice.raw())
		fails(`{"type":"join","id":1,"room":"one"}`, "1", "denied", "denied")
		require.Nil(t, alice.ended())
	})
}

func TestV1IsNegotiated(t *testing.T) {
	roads(t, func(t *testing.T, secure bool) {
		s := newSite(t, realtime.Options{}, secure)
		dial := func(query string, offer ...string) (*websocket.Conn, string) {
			ws, _, err := websocket.Dial(t.Context(), s.URL+"/ws?user_id=alice"+query, &websocket.DialOptions{
				HTTPClient: s.Client(), Subprotocols: offer,
			})
			require.NoError(t, err)
			t.Cleanup(func() { _ = ws.CloseNow() })
			_, welcome, err := ws.Read(t.Context())
			require.NoError(t, err)
			return ws, string(welcome)
		}
		for _, test := range []struct {
			query string
			offer []string
			agree string
			v1    bool
		}{
			{"", nil, "", false},
			{"", []string{"realtime.v1"}, "realtime.v1", true},
			{"", []string{"bearer.abc", "realtime.v1"}, "realtime.v1", true},
			{"", []string{"realtime.v2"}, "", false},
			{"&protocol=realtime.v1", nil, "", true},
			{"&protocol=realtime.v2", nil, "", false},
		} {
			ws, welcome := dial(test.query, test.offer...)
			require.Equal(t, test.agree, ws.Subprotocol(), "%+v", test)
			require.Equal(t, test.v1, strings.Contains(welcome, "max_message_bytes"), "%+v", test)
		}
	})
}

func TestV1Compressed(t *testing.T) {
	bubble(t, realtime.Options{CompressFrom: 64}, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		bob := b.open("bob")
		alice.hush()
		bob.hush()
		b.news(realtime.ToAll(), strings.Repeat("x", 100))
		require.Len(t, alice.got(), 1)
		require.Len(t, bob.got(), 1)
	})
}

// TestScopesOfIDs checks that an id is its sender's: what an anonymous client sends neither
// pre-empts the application's messages nor those of users and of other anonymous clients. A
// client that resumes its session is the same sender as before.
func TestScopesOfIDs(t *testing.T) {
	for name, o := range map[string]realtime.Options{"plain room": {}, "history": keeping(100)} {
		t.Run(name, func(t *testing.T) {
			bubble(t, o, func(t *testing.T, b *bed) {
				bob := b.openV1(realtime.Identity{UserID: "bob"})
				eve := b.openV1(realtime.Identity{UserID: "eve"})
				b.join("lobby", bob, eve)
				send := func(c *client, content string) string {
					frames := c.asks(`{"type":"send","id":1,"room":"lobby","message_id":"x","content":` + content + `}`)
					require.NotEmpty(t, frames)
					return frames[len(frames)-1]
				}
				const ok = `{"message_type":"reply","id":1}`
				one, w := b.session("")
				two, _ := b.session("")
				require.Equal(t, ok, send(one, `"one"`))
				require.Equal(t, ok, send(two, `"two"`))
				require.Equal(t, ok, send(bob, `"bob"`))
				res, err := b.Send(t.Context(), realtime.ToRoom("lobby"),
					realtime.Message{ID: "x", Content: json.RawMessage(`"server"`)})
				require.NoError(t, err)
				require.False(t, res.Duplicate)

				one.Drop()
				again, _ := b.session("")
				again.resumes(w.Session)
				require.Equal(t, ok, send(again, `"one again"`))
				require.Equal(t, ok, send(bob, `"bob again"`))

				var contents []string
				guests := map[string]bool{}
				for _, frame := range eve.raw() {
					var m struct {
						ID      string
						Guest   string
						Content json.RawMessage
					}
					require.NoError(t, json.Unmarshal([]byte(strings.Replace(frame, `"timestamp":T`, `"timestamp":0`, 1)), &m))
					if m.ID == "x" {
						contents = append(contents, string(m.Content))
						guests[m.Guest] = true
					}
				}
				require.Equal(t, []string{`"one"`, `"two"`, `"bob"`, `"server"`}, contents)
				require.Len(t, guests, 3, "two anonymous ones, and neither bob nor the application is one")
			})
		})
	}
}
