package integration_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

func TestV1Requests(t *testing.T) {
	bubble(t, announced(), func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		require.Regexp(t, `^\{"message_type":"welcome","sender_id":null,"content":\{"connection_id":"conn_[-0-9a-f]+",`+
			`"message":"Connected successfully","user_id":"alice","max_message_bytes":65536,"reconnect_ms":0,`+
			`"session":"conn_[-0-9a-f]+\.[-_0-9A-Za-z]{22}","resume_ms":15000\},"timestamp":\d+\}$`, alice.raw()[0])
		bob := b.open("bob")
		alice.discard()
		id := alice.conn.ID()
		chat := func(room string) string {
			return `{"message_type":"chat","sender_id":"alice","content":{"x":[1]},"timestamp":T` + room + `}`
		}
		for _, step := range []struct {
			request string
			want    []string
		}{
			{`ping`, []string{`pong`}},
			{`{"type":"ping","id":0}`, []string{`{"message_type":"reply","id":0}`}},
			{`{"type":"join","id":1,"room":"lobby"}`, []string{`{"message_type":"reply","id":1,"content":{"key":"KEY"}}`}},
			{`{"type":"join","id":"again","room":"lobby"}`, []string{`{"message_type":"reply","id":"again","content":{"key":"KEY"}}`}},
			{
				`{"type":"send","id":2,"room":"lobby","content":{"x":[1]}}`,
				[]string{chat(`,"room":"lobby"`), `{"message_type":"reply","id":2}`},
			},
			{`{"type":"send","all":true,"content":{"x":[1]}}`, []string{chat("")}},
			{`{"type":"send","user":"alice","content":{"x":[1]}}`, []string{chat(`,"conn":"` + id + `"`)}},
			{`{"type":"send","conn":"` + id + `","content":{"x":[1]}}`, []string{chat(`,"conn":"` + id + `"`)}},
			{
				`{"type":"send","all":true,"message_type":"move","content":null}`,
				[]string{`{"message_type":"move","sender_id":"alice","content":null,"timestamp":T}`},
			},
			{`{"type":"leave","id":3,"room":"lobby"}`, []string{`{"message_type":"reply","id":3}`}},
			{`{"type":"send","room":"lobby","content":1}`, []string{}},
		} {
			require.Equal(t, step.want, maskKeys(alice.request(step.request)), step.request)
		}
		require.Equal(t, []string{
			"welcome", `chat {"x":[1]}`, "move null",
		}, bob.got(), "the message to all, in the plain protocol")
	})
}

func TestV1Errors(t *testing.T) {
	o := realtime.Options{Limits: realtime.Limits{RoomsPerConn: 1}, Authorize: func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
		if a.Room == "secret" || len(a.Target.Rooms) > 0 && a.Target.Rooms[0] == "secret" {
			return errors.New("a detail for the log")
		}
		return nil
	}, OnMessage: func(_ context.Context, _ *realtime.Conn, in realtime.Inbound) (any, error) {
		if in.Message.Type == "fail" {
			return nil, fmt.Errorf("a secret of the application: %w", realtime.ErrInvalidName)
		}
		return nil, nil
	}}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		fails := func(request, id, code, message string) {
			t.Helper()
			want := `{"message_type":"error","id":` + id + `,"content":{"code":"` + code + `","message":"` + message + `"}}`
			require.Equal(t, []string{want}, alice.request(request))
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
		fails(`{"type":"send","id":1}`, "1", "bad_request", "want one of room, user, conn, all: true, or server: true")
		fails(`{"type":"send","id":1,"all":true,"room":"r"}`, "1", "bad_request", "want one of room, user, conn, all: true, or server: true")
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
		require.Empty(t, alice.request(`{"type":"join","room":"one"}`))
		fails(`{"type":"join","id":1,"room":"two"}`, "1", "limit", "too many rooms")
		_, err := b.Room("one").Deny(t.Context(), "alice", time.Minute)
		require.NoError(t, err)
		require.Equal(t, []string{`{"message_type":"left","room":"one"}`}, alice.raw())
		require.Contains(t, alice.request(`{"type":"join","id":1,"room":"one"}`)[0], `"code":"denied"`)
		require.Nil(t, alice.ended())
	})
}

func TestV1IsNegotiated(t *testing.T) {
	plainAndTLS(t, func(t *testing.T, secure bool) {
		s := newTestServer(t, realtime.Options{}, secure)
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
		alice.discard()
		bob.discard()
		b.news(realtime.ToAll(), strings.Repeat("x", 100))
		require.Len(t, alice.got(), 1)
		require.Len(t, bob.got(), 1)
	})
}

// wrongVectors returns the frames of testdata/wire. Those of kind "wrong" are not requests and have
// an error code.
func wrongVectors(t *testing.T) (all []struct {
	Name, Kind, Frame string
	Bytes             []byte `json:"frame_base64"`
	Error             string
}) {
	p, err := os.ReadFile("../../testdata/wire/client.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(p, &all))
	return all
}

func TestV1Vectors(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		n := 0
		for _, v := range wrongVectors(t) {
			if v.Kind != "wrong" {
				continue
			}
			n++
			if v.Bytes != nil {
				require.NoError(t, alice.WriteBinary(v.Bytes))
			} else {
				require.NoError(t, alice.Write([]byte(v.Frame)))
			}
			frames := alice.raw()
			require.Len(t, frames, 1, v.Name)
			require.Contains(t, frames[0], `"content":{"code":"`+v.Error+`",`, v.Name)
		}
		require.Greater(t, n, 10)
		require.Nil(t, alice.ended())
	})
}

func TestV1Binary(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice, bob := b.openV1(realtime.Identity{UserID: "alice"}), b.open("bob")
		alice.discard()
		bob.discard()
		header := `{"type":"send","id":1,"all":true,"message_type":"frame","message_id":"m1"}`
		require.NoError(t, alice.WriteBinary(append([]byte{byte(len(header))}, header+"\x00\xff"...)))
		frames := alice.raw()
		require.Len(t, frames, 2)
		require.Equal(t, "L"+`{"message_type":"frame","sender_id":"alice","timestamp":946684800,"id":"m1"}`+"\x00\xff", frames[0])
		require.Equal(t, `{"message_type":"reply","id":1}`, frames[1])
		require.Regexp(t, `"content":"`+base64.StdEncoding.EncodeToString([]byte("\x00\xff"))+`"`, bob.raw()[0])

		_, err := b.Send(t.Context(), realtime.ToAll(), realtime.Message{Content: json.RawMessage("1"), Binary: []byte{}})
		require.ErrorIs(t, err, realtime.ErrInvalidMessage)
		_, err = b.Send(t.Context(), realtime.ToAll(), realtime.Message{ID: strings.Repeat("x", 65)})
		require.ErrorIs(t, err, realtime.ErrInvalidName)
		_, err = b.Send(t.Context(), realtime.ToAll(), realtime.Message{Binary: make([]byte, 5<<20)})
		require.ErrorIs(t, err, realtime.ErrTooLarge)
	})
}
