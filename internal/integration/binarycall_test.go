package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// The result of a handler is the content of the answer.
func TestResultOfHandler(t *testing.T) {
	results := map[string]any{
		"nil": nil, "string": "x", "number": 7, "struct": struct{ A []byte }{[]byte("x")}, "pointer": (*int)(nil),
		"raw": json.RawMessage(` {"a" : 1}`), "empty raw": json.RawMessage{}, "no raw": json.RawMessage(nil),
		"bytes": []byte("\x00\xff"), "empty bytes": []byte{}, "nil bytes": []byte(nil),
	}
	o := realtime.Options{OnMessage: func(_ context.Context, _ *realtime.Conn, in realtime.Inbound) (any, error) {
		return results[in.Method], nil
	}}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		const reply = `{"message_type":"reply","id":1`
		for method, want := range map[string]string{
			"nil": reply + "}", "empty raw": reply + "}", "no raw": reply + "}", "pointer": reply + `,"content":null}`,
			"string": reply + `,"content":"x"}`, "number": reply + `,"content":7}`, "raw": reply + `,"content": {"a" : 1}}`,
			"struct": reply + `,"content":{"A":"eA=="}}`,
			"bytes":  string(headed(reply+"}", "\x00\xff")), "empty bytes": string(headed(reply+"}", "")),
			"nil bytes": string(headed(reply+"}", "")),
		} {
			call := `"type":"call","method":"` + method + `"}`
			require.Equal(t, []string{want}, alice.request(`{"id":1,`+call), method)
			require.Empty(t, alice.request(`{`+call), "%s: nobody asked for an answer", method)
		}
	})
}

// marshaler is a value whose encoding is code of the application.
type marshaler func() ([]byte, error)

func (m marshaler) MarshalJSON() ([]byte, error) { return m() }

// A result that cannot be sent is an error of the application: the client learns nothing of it, and
// it is logged.
func TestResultThatCannotBeSent(t *testing.T) {
	var log bytes.Buffer
	var result any
	o := realtime.Options{
		Limits: realtime.Limits{QueueBytes: 2048},
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		OnMessage: func(context.Context, *realtime.Conn, realtime.Inbound) (any, error) {
			return result, nil
		},
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		secret := &realtime.Error{Code: "secret", Message: "for the application"}
		for name, test := range map[string]struct {
			result any
			code   string
		}{
			"channel":   {make(chan int), "internal"},
			"marshaler": {marshaler(func() ([]byte, error) { return nil, secret }), "internal"},
			"forbidden": {marshaler(func() ([]byte, error) { return nil, realtime.ErrForbidden }), "internal"},
			"no JSON":   {json.RawMessage("{"), "internal"},
			"no UTF-8":  {struct{ A json.RawMessage }{json.RawMessage("\"\xff\"")}, "internal"},
			"bytes":     {make([]byte, 1025), "too_large"},
			"JSON":      {strings.Repeat("x", 1023), "too_large"},
		} {
			log.Reset()
			result = test.result
			require.Contains(t, alice.request(`{"type":"call","id":1,"method":"m"}`)[0], `"code":"`+test.code+`"`, name)
			require.Equal(t, test.code == "internal", strings.Contains(log.String(), "message failed"), name)
			time.Sleep(time.Second) // the rate of log lines
		}
		result = make([]byte, 1024)
		require.Len(t, alice.request(`{"type":"call","id":1,"method":"m"}`)[0], 1+len(`{"message_type":"reply","id":1}`)+1024)
		require.Nil(t, alice.ended())
		result = marshaler(func() ([]byte, error) { panic("in the application") })
		alice.request(`{"type":"call","id":1,"method":"m"}`)
		alice.requireEnd(realtime.CloseInternal)
	})
}

// A call that panics or ends its goroutine ends its connection, like a message.
func TestPanicInACall(t *testing.T) {
	o := realtime.Options{OnMessage: func(_ context.Context, _ *realtime.Conn, in realtime.Inbound) (any, error) {
		if in.Method == "panic" {
			panic("no")
		}
		runtime.Goexit()
		return nil, nil
	}}
	for _, method := range []string{"panic", "goexit"} {
		bubble(t, o, func(t *testing.T, b *bed) {
			alice := b.openV1(realtime.Identity{UserID: "alice"})
			alice.discard()
			_ = alice.WriteBinary(headed(`{"type":"call","id":1,"method":"`+method+`"}`, "x"))
			alice.requireEnd(realtime.CloseInternal)
			require.EqualValues(t, 1, b.Stats().Panics)
		})
	}
}

// Binary calls share no memory with the messages that follow, whether they wait for a handler or not.
func TestBinaryCallsShareNoBuffer(t *testing.T) {
	var kept [][]byte
	var release chan struct{}
	o := realtime.Options{OnMessage: func(_ context.Context, _ *realtime.Conn, in realtime.Inbound) (any, error) {
		<-release
		kept = append(kept, in.Message.Binary)
		return in.Message.Binary, nil
	}}
	bubble(t, o, func(t *testing.T, b *bed) {
		release = make(chan struct{})
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		var want []string
		for i := range 4 {
			content := strings.Repeat(fmt.Sprint(i), 50*i)
			require.NoError(t, alice.WriteBinary(headed(fmt.Sprintf(`{"type":"call","id":%d,"method":"m"}`, i), content)))
			want = append(want, string(headed(fmt.Sprintf(`{"message_type":"reply","id":%d}`, i), content)))
		}
		time.Sleep(10 * time.Second) // longer than a handler may delay reading
		close(release)
		require.Equal(t, want, alice.raw())
		for i := range 4 {
			alice.requestBinary(`{"type":"call","method":"m"}`, strings.Repeat(fmt.Sprint(i), 50*i))
		}
		for i, p := range kept {
			require.Equal(t, strings.Repeat(fmt.Sprint(i%4), 50*(i%4)), string(p))
			require.NotNil(t, p)
		}
		require.Len(t, kept, 8)
	})
}

// The server calls a client with bytes, and gets bytes.
func TestBinaryCallOfClient(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		n := 0
		// call returns the frame of a call, after the client has answered with bytes or with JSON.
		call := func(do func() error, answer []byte) (frame string, err error) {
			n++
			done := make(chan error, 1)
			go func() { done <- do() }()
			frame = alice.raw()[0]
			if answer[0] == '{' {
				require.NoError(t, alice.Write(answer))
			} else {
				require.NoError(t, alice.WriteBinary(answer))
			}
			return frame, <-done
		}
		header := func() string { return fmt.Sprintf(`{"message_type":"call","id":%d,"method":"sign"}`, n) }
		reply := func() string { return fmt.Sprintf(`{"type":"reply","id":%d}`, n+1) }
		jsonReply := func() []byte { return fmt.Appendf(nil, `{"type":"reply","id":%d,"content":[1]}`, n+1) }

		var all []string
		var answers [][]byte
		for _, content := range []string{"\x00\xff", "ab", ""} {
			var signed []byte
			frame, err := call(func() (err error) {
				signed, err = realtime.Call[[]byte](t.Context(), alice.conn, "sign", []byte(content))
				return err
			}, headed(reply(), content+content))
			require.NoError(t, err)
			require.Equal(t, string(headed(header(), content)), frame)
			require.Equal(t, content+content, string(signed))
			require.NotNil(t, signed, "empty bytes are no missing content")
			all, answers = append(all, content+content), append(answers, signed)
		}
		for i, p := range answers {
			require.Equal(t, all[i], string(p), "no answer changes later")
		}
		var dynamic any
		frame, err := call(func() (err error) {
			dynamic, err = realtime.Call[any](t.Context(), alice.conn, "sign", nil)
			return err
		}, headed(reply(), "x"))
		require.NoError(t, err)
		require.Equal(t, header(), frame)
		require.Equal(t, []byte("x"), dynamic)

		_, err = call(func() error {
			return second(realtime.Call[[]byte](t.Context(), alice.conn, "sign", []byte(nil)))
		}, jsonReply())
		require.ErrorContains(t, err, "answer to sign: JSON in place of bytes")
		for _, do := range []func() error{
			func() error { return second(realtime.Call[int](t.Context(), alice.conn, "sign", 1)) },
			func() error { return second(realtime.Call[json.RawMessage](t.Context(), alice.conn, "sign", 1)) },
		} {
			_, err = call(do, headed(reply(), "1"))
			require.ErrorContains(t, err, "answer to sign: bytes in place of JSON")
		}
		_, err = realtime.Call[any](t.Context(), alice.conn, "sign", make([]byte, 3<<20))
		require.ErrorIs(t, err, realtime.ErrTooLarge)
		bob := b.open("bob")
		_, err = realtime.Call[any](t.Context(), bob.conn, "sign", []byte("x"))
		require.ErrorIs(t, err, realtime.ErrPlainProtocol)
	})
}

// The answer to a call counts only on the connection of the call, and an error in bytes is none.
func TestBinaryAnswerOfAnotherConnection(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		first, w := b.session("alice")
		ended := make(chan error, 1)
		call := func(c *realtime.Conn) {
			go func() { ended <- second(realtime.Call[[]byte](t.Context(), c, "sign", []byte("x"))) }()
			synctest.Wait()
		}
		call(first.conn)
		first.Drop()
		_, lost := errors.AsType[*realtime.CloseError](<-ended)
		require.True(t, lost)
		again, _ := b.session("alice")
		again.resumes(w.Session)
		require.Empty(t, again.requestBinary(`{"type":"reply","id":1}`, "late"))
		call(again.conn)
		require.Contains(t, again.requestBinary(`{"type":"error","id":1}`, "x")[1], `"code":"bad_request"`)
		require.Empty(t, ended)
		require.Empty(t, again.requestBinary(`{"type":"reply","id":1}`, "y"))
		require.NoError(t, <-ended)
	})
}

// Bytes in calls work over a socket, with and without compression.
func TestBinaryCallsOverASocket(t *testing.T) {
	for _, mode := range []websocket.CompressionMode{
		websocket.CompressionDisabled, websocket.CompressionNoContextTakeover,
	} {
		o := compressing()
		o.OnMessage = func(ctx context.Context, c *realtime.Conn, in realtime.Inbound) (any, error) {
			return realtime.Call[any](ctx, c, in.Method, in.Message.Binary)
		}
		s := newTestServer(t, o, false)
		ws, _, err := websocket.Dial(t.Context(), s.URL+"/ws?user_id=alice", &websocket.DialOptions{
			HTTPClient: s.Client(), Subprotocols: []string{realtime.V1}, CompressionMode: mode, CompressionThreshold: 1,
		})
		require.NoError(t, err)
		defer func() { _ = ws.CloseNow() }()
		announced := 0
		next := func() (websocket.MessageType, string) {
			for {
				kind, p, err := ws.Read(t.Context())
				require.NoError(t, err)
				switch text := string(p); {
				case strings.Contains(text, `"large"`):
					announced++
				case !strings.Contains(text, `"welcome"`):
					return kind, text
				}
			}
		}
		write := func(header, content string) {
			require.NoError(t, ws.Write(t.Context(), websocket.MessageBinary, headed(header, content)))
		}
		for _, content := range []string{"", lengthy("x"), lengthy(lengthy("y"))[:9000]} {
			write(`{"type":"call","id":1,"method":"echo"}`, content)
			kind, call := next()
			require.Equal(t, websocket.MessageBinary, kind)
			id := strings.Split(strings.Split(call, `"id":`)[1], ",")[0]
			require.True(t, strings.HasSuffix(call, `"method":"echo"}`+content))
			write(`{"type":"reply","id":`+id+`}`, content+"!")
			kind, answer := next()
			require.Equal(t, websocket.MessageBinary, kind)
			require.Equal(t, string(headed(`{"message_type":"reply","id":1}`, content+"!")), answer)
		}
		require.Equal(t, 2, announced, "the large call and its answer")
	}
}
