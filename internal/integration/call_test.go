package integration_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker"
)

// wrongs are the frames of testdata/wire that are no requests, with their error codes.
func wrongs(t *testing.T) (all []struct {
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
		alice.hush()
		n := 0
		for _, v := range wrongs(t) {
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

// The answer to a request for presence has its place among the notices: who puts them together
// in the order in which they come always knows who is in the room.
func TestPresenceIsExact(t *testing.T) {
	bubble(t, announced(), func(t *testing.T, b *bed) {
		watcher := b.openV1(realtime.Identity{UserID: "watcher"})
		_, err := b.Join(t.Context(), watcher.conn.ID(), "lobby")
		require.NoError(t, err)
		done := make(chan struct{})
		for i := range 4 {
			go func() {
				defer func() { done <- struct{}{} }()
				for j := range 50 {
					c := b.open(fmt.Sprint("user", i))
					_, _ = b.Join(t.Context(), c.conn.ID(), "lobby")
					if j%2 == 0 {
						_, _ = b.Leave(t.Context(), c.conn.ID(), "lobby")
					}
					_ = c.conn.Close(realtime.CloseNormal, "")
				}
			}()
		}
		for range 100 {
			require.NoError(t, watcher.Write([]byte(`{"type":"presence","id":1,"room":"lobby"}`)))
		}
		for range 4 {
			<-done
		}
		require.NoError(t, watcher.Write([]byte(`{"type":"presence","id":1,"room":"lobby"}`)))
		requireExact(t, watcher.raw())
	})
}

// requireExact follows the notices of a room and compares with each answer.
func requireExact(t *testing.T, frames []string) {
	t.Helper()
	var in map[string]bool
	answers := 0
	for _, frame := range frames {
		var f struct {
			Type    string `json:"message_type"`
			Content struct {
				Type  string
				User  string `json:"user_id"`
				Users []string
				Count int `json:"user_count"`
			}
		}
		require.NoError(t, json.Unmarshal([]byte(frame), &f))
		switch {
		case f.Type == "reply":
			answers++
			require.Len(t, f.Content.Users, f.Content.Count)
			if in != nil {
				require.Len(t, f.Content.Users, len(in), frame)
			}
			in = map[string]bool{}
			for _, user := range f.Content.Users {
				in[user] = true
			}
		case in == nil:
		case f.Content.Type == "room_join":
			in[f.Content.User] = true
		case f.Content.Type == "room_leave":
			delete(in, f.Content.User)
		}
	}
	require.Greater(t, answers, 10)
}

func TestPresenceOfManyAndOfNone(t *testing.T) {
	o := realtime.Options{MaxConns: -1, InboundFanout: 1000}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.hush()
		ask := `{"type":"presence","id":1,"room":"lobby"}`
		require.Equal(t, []string{
			`{"message_type":"reply","id":1,"content":{"users":[],"user_count":0,"connection_count":0}}`,
		}, alice.asks(ask))
		for i := range 1001 {
			transport, far := realtime.Pipe()
			defer far.Drop()
			c, err := b.Register(t.Context(), transport, realtime.Identity{UserID: fmt.Sprint("user", i)})
			require.NoError(t, err)
			_, err = b.Join(t.Context(), c.ID(), "lobby")
			require.NoError(t, err)
			if i == 999 {
				require.Contains(t, alice.asks(ask)[0], `"user999"],"user_count":1000,"connection_count":1000}}`)
			}
		}
		require.Equal(t, []string{
			`{"message_type":"reply","id":1,"content":{"users":null,"user_count":1001,"connection_count":1001}}`,
		}, alice.asks(ask))
		require.Zero(t, b.Stats().Throttled)
		for range 11 { // each as much work as a message to 1000
			_, err := b.Room("lobby").Remove(t.Context(), "user1000")
			require.NoError(t, err)
			alice.asks(ask)
		}
		require.NotZero(t, b.Stats().Throttled)
	})
}

func TestBinary(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice, bob := b.openV1(realtime.Identity{UserID: "alice"}), b.open("bob")
		alice.hush()
		bob.hush()
		header := `{"type":"send","id":1,"all":true,"message_type":"frame","message_id":"m1"}`
		require.NoError(t, alice.WriteBinary(append([]byte{byte(len(header))}, header+"\x00\xff"...)))
		frames := alice.raw()
		require.Len(t, frames, 2)
		require.Equal(t, "L"+`{"message_type":"frame","sender_id":"alice","timestamp":946684800,"id":"m1"}`+"\x00\xff", frames[0])
		require.Equal(t, `{"message_type":"reply","id":1}`, frames[1])
		require.Regexp(t, `"content":"`+base64.StdEncoding.EncodeToString([]byte("\x00\xff"))+`"`, bob.raw()[0])

		_, err := b.Send(t.Context(), realtime.ToAll(), realtime.Message{Content: json.RawMessage("1"), Binary: []byte{}})
		require.ErrorIs(t, err, realtime.ErrMessage)
		_, err = b.Send(t.Context(), realtime.ToAll(), realtime.Message{ID: strings.Repeat("x", 65)})
		require.ErrorIs(t, err, realtime.ErrName)
		_, err = b.Send(t.Context(), realtime.ToAll(), realtime.Message{Binary: make([]byte, 5<<20)})
		require.ErrorIs(t, err, realtime.ErrTooLarge)
	})
}

// calc is a Router with a method and an event, and what a middleware has seen.
func calc(seen *[]string) *realtime.Router {
	r := &realtime.Router{}
	trace := func(name string) func(realtime.Handler) realtime.Handler {
		return func(next realtime.Handler) realtime.Handler {
			return func(ctx context.Context, c *realtime.Conn, in realtime.Inbound) (json.RawMessage, error) {
				*seen = append(*seen, name+" "+in.Method+in.Message.Type)
				return next(ctx, c, in)
			}
		}
	}
	r.Use(trace("outer"), trace("inner"))
	type pair struct{ A, B int }
	realtime.Handle(r, "add", func(_ context.Context, _ *realtime.Conn, p pair) (int, error) {
		switch {
		case p.A == 0:
			return 0, &realtime.Error{Code: "nothing", Message: "a is 0"}
		case p.A < 0:
			return 0, fmt.Errorf("secret: %w", realtime.ErrForbidden)
		case p.B < 0:
			return 0, errors.New("secret")
		}
		return p.A + p.B, nil
	})
	realtime.On(r, "move", func(_ context.Context, c *realtime.Conn, in realtime.Inbound, p pair) error {
		*seen = append(*seen, fmt.Sprint(c.UserID(), in.Target.Rooms, p))
		return nil
	})
	realtime.On(r, "chat", func(_ context.Context, _ *realtime.Conn, _ realtime.Inbound, text string) error {
		*seen = append(*seen, text)
		return nil
	})
	return r
}

func TestRouter(t *testing.T) {
	var seen []string
	r := calc(&seen)
	o := realtime.Options{OnMessage: r.OnMessage, OnCall: r.OnCall}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.hush()
		failure := func(code, message string) string {
			return `{"message_type":"error","id":1,"content":{"code":"` + code + `","message":"` + message + `"}}`
		}
		for _, step := range []struct{ request, want string }{
			{`{"type":"call","id":1,"method":"add","content":{"a":1,"b":2}}`, `{"message_type":"reply","id":1,"content":3}`},
			{`{"type":"call","id":1,"method":"add"}`, failure("nothing", "a is 0")},
			{`{"type":"call","id":1,"method":"add","content":{"a":-1}}`, failure("forbidden", "forbidden")},
			{`{"type":"call","id":1,"method":"add","content":{"a":1,"b":-1}}`, failure("internal", "internal error")},
			{`{"type":"call","id":1,"method":"sub"}`, failure("unknown_method", `unknown method \"sub\"`)},
			{`{"type":"call","id":1,"method":""}`, failure("bad_request", "method: invalid name: empty")},
			{`{"type":"send","id":1,"room":"r","message_type":"move","content":{"A":1,"B":2}}`, `{"message_type":"reply","id":1}`},
			{`{"type":"send","id":1,"all":true,"message_type":"sing"}`, failure("unknown_event", `unknown event \"sing\"`)},
			{`{"type":"send","id":1,"all":true,"content":"hi"}`, `{"message_type":"reply","id":1}`},
		} {
			require.Equal(t, []string{step.want}, alice.asks(step.request), step.request)
		}
		for _, request := range []string{
			`{"type":"call","id":1,"method":"add","content":"x"}`,
			`{"type":"send","id":1,"all":true,"message_type":"move","content":[]}`,
		} {
			require.Contains(t, alice.asks(request)[0], `"content":{"code":"bad_request","message":"content: it cannot be a JSON `)
		}
		bob := b.open("bob")
		bob.say("hello", "all")
		synctest.Wait()
		require.Equal(t, "hello", seen[len(seen)-1], "a plain client's text")
		bob.say("", "all")
		synctest.Wait()
		require.Empty(t, seen[len(seen)-1], "also if that is empty")
	})
	require.Equal(t, []string{"outer add", "inner add"}, seen[:2])
	require.Contains(t, seen, "alice[r] {1 2}")
}

func TestRouterRefusesMistakes(t *testing.T) {
	handle := func(context.Context, *realtime.Conn, int) (int, error) { return 0, nil }
	on := func(context.Context, *realtime.Conn, realtime.Inbound, int) error { return nil }
	r := &realtime.Router{}
	realtime.Handle(r, "twice", handle)
	realtime.On(r, "twice", on)
	require.PanicsWithValue(t, `realtime: two handlers for "twice"`, func() { realtime.Handle(r, "twice", handle) })
	require.PanicsWithValue(t, `realtime: two handlers for "twice"`, func() { realtime.On(r, "twice", on) })
	for _, name := range []string{"", " x", strings.Repeat("x", 65)} {
		require.Panics(t, func() { realtime.Handle(r, name, handle) })
		require.Panics(t, func() { realtime.On(r, name, on) })
	}
	require.Panics(t, func() { realtime.On(r, "welcome", on) })
	require.Panics(t, func() { realtime.On[int](r, "nil", nil) })
	require.Panics(t, func() { realtime.Handle[int, int](r, "nil", nil) })
}

// Without a handler there is no method, and without an authorizer nobody may know.
func TestCallsAreRefused(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.hush()
		require.Contains(t, alice.asks(`{"type":"call","id":1,"method":"m"}`)[0], `"code":"unknown_method"`)
	})
	var asked []realtime.Action
	o := realtime.Options{
		Authorize: func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
			asked = append(asked, a)
			return realtime.ErrForbidden
		},
		OnCall: func(context.Context, *realtime.Conn, realtime.Inbound) (json.RawMessage, error) {
			t.Error("called")
			return nil, nil
		},
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.hush()
		require.Contains(t, alice.asks(`{"type":"call","id":1,"method":"m"}`)[0], `"code":"forbidden"`)
		require.Contains(t, alice.asks(`{"type":"presence","id":1,"room":"r"}`)[0], `"code":"forbidden"`)
		require.Equal(t, []realtime.Action{
			{Kind: realtime.ActionCall, Method: "m"}, {Kind: realtime.ActionMembers, Room: "r"},
		}, asked)
	})
}

// What a handler answers is JSON, or nobody gets it.
func TestAnswerOfHandlerIsChecked(t *testing.T) {
	var answer json.RawMessage
	o := realtime.Options{
		QueueBytes: 2048,
		OnCall: func(context.Context, *realtime.Conn, realtime.Inbound) (json.RawMessage, error) {
			return answer, nil
		},
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.hush()
		for text, want := range map[string]string{
			"": `{"message_type":"reply","id":1}`, "{": `"code":"internal"`, "\"\xff\"": `"code":"internal"`,
			`"` + strings.Repeat("x", 1023) + `"`: `"code":"too_large"`, "[1]": `"content":[1]`,
		} {
			answer = json.RawMessage(text)
			require.Contains(t, alice.asks(`{"type":"call","id":1,"method":"m"}`)[0], want)
		}
	})
}

// answerer is a client that answers calls as told.
func (c *client) answers(answer func(id string, frame string) string) {
	go func() {
		for {
			frame, _, err := c.Read(context.Background())
			if err != nil {
				return
			}
			var call struct {
				Type string `json:"message_type"`
				ID   json.RawMessage
			}
			if json.Unmarshal(frame, &call) == nil && call.Type == "call" {
				_ = c.Write([]byte(answer(string(call.ID), string(frame))))
			}
		}
	}()
}

// answering connects a client of realtime.v1 that answers calls.
func (b *bed) answering(user string, answer func(id, frame string) string) *client {
	transport, far := realtime.Pipe(realtime.V1)
	c := &client{PipeClient: far, t: b.t, resume: make(chan struct{})}
	b.t.Cleanup(func() { c.Drop() })
	c.answers(answer)
	c.conn, c.err = b.Register(b.t.Context(), transport, realtime.Identity{UserID: user})
	require.NoError(b.t, c.err)
	return c
}

func TestCallOfClient(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		var frames []string
		say := ""
		alice := b.answering("alice", func(id, frame string) string {
			frames = append(frames, frame)
			return strings.ReplaceAll(say, "ID", id)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		call := func() (int, error) { return realtime.Call[int](ctx, alice.conn, "add", map[string]int{"a": 1}) }

		say = `{"type":"reply","id":ID,"content":7}`
		got, err := call()
		require.NoError(t, err)
		require.Equal(t, 7, got)
		require.Equal(t, []string{`{"message_type":"call","id":1,"method":"add","content":{"a":1}}`}, frames)

		say = `{"type":"reply","id":ID}`
		got, err = call()
		require.NoError(t, err)
		require.Zero(t, got)

		say = `{"type":"reply","id":ID,"content":"x"}`
		_, err = call()
		require.ErrorContains(t, err, "answer to add")

		say = `{"type":"error","id":ID,"content":{"code":"busy","message":"not now"}}`
		_, err = call()
		require.Equal(t, &realtime.ClientError{Code: "busy", Message: "not now"}, err)

		for _, odd := range []string{`null`, `1`, `{}`, `{"code":1}`, `{"code":""}`, `{"code":"` + strings.Repeat("x", 65) + `"}`} {
			say = `{"type":"error","id":ID,"content":` + odd + `}`
			_, err = call()
			require.Equal(t, &realtime.ClientError{Code: "internal", Message: "no reason given"}, err)
		}

		say = `{"type":"reply","id":99}`
		_, err = call()
		require.ErrorIs(t, err, context.DeadlineExceeded)

		_, err = alice.conn.Call(t.Context(), "", nil)
		require.ErrorIs(t, err, realtime.ErrName)
		_, err = alice.conn.Call(t.Context(), "m", json.RawMessage("{"))
		require.ErrorIs(t, err, realtime.ErrMessage)
		_, err = alice.conn.Call(t.Context(), "m", json.RawMessage(`"`+strings.Repeat("x", 3<<20)+`"`))
		require.ErrorIs(t, err, realtime.ErrTooLarge)
		_, err = realtime.Call[int](t.Context(), alice.conn, "m", func() {})
		require.ErrorContains(t, err, "call of m")

		bob := b.open("bob")
		_, err = bob.conn.Call(t.Context(), "m", nil)
		require.ErrorIs(t, err, realtime.ErrPlain)

		time.AfterFunc(time.Second, func() { _ = alice.conn.Close(realtime.CloseNormal, "") })
		_, err = alice.conn.Call(t.Context(), "m", nil)
		require.ErrorIs(t, err, realtime.ErrClosed)
		_, err = alice.conn.Call(t.Context(), "m", nil)
		require.ErrorIs(t, err, realtime.ErrClosed)
	})
}

// A handler may call its own client, and what comes in meanwhile waits for it.
func TestCallInsideHandler(t *testing.T) {
	var order []string
	o := realtime.Options{
		OnConnect: func(ctx context.Context, c *realtime.Conn) error {
			_, err := c.Call(ctx, "early", nil)
			require.ErrorIs(t, err, realtime.ErrNotOpen)
			return nil
		},
		OnCall: func(ctx context.Context, c *realtime.Conn, in realtime.Inbound) (json.RawMessage, error) {
			order = append(order, in.Method+" begins")
			answer, err := c.Call(ctx, "sure", in.Message.Content)
			order = append(order, in.Method+" ends")
			return answer, err
		},
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.answering("alice", func(id, _ string) string {
			time.Sleep(time.Second)
			return `{"type":"reply","id":` + id + `,"content":true}`
		})
		require.NoError(t, alice.Write([]byte(`{"type":"call","id":1,"method":"one"}`)))
		require.NoError(t, alice.Write([]byte(`{"type":"call","id":2,"method":"two"}`)))
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, []string{"one begins", "one ends", "two begins", "two ends"}, order)
	})
}

// A client learns when somebody else takes it out of a room, in the order of what happens.
func TestLeftIsTold(t *testing.T) {
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
		alice.hush()
		plain.hush()
		ctx, join := t.Context(), `{"type":"join","id":1,"room":"lobby"}`

		require.Equal(t, []string{done}, alice.asks(join))
		_, err := b.Leave(ctx, alice.conn.ID(), "lobby")
		require.NoError(t, err)
		require.Equal(t, []string{left, done}, alice.asks(join))
		require.Equal(t, []string{done}, alice.asks(`{"type":"leave","id":1,"room":"lobby"}`), "its own wish")
		_, err = b.Leave(ctx, alice.conn.ID(), "lobby")
		require.NoError(t, err)
		require.Equal(t, []string{done}, alice.asks(join), "it was not in it")

		_, err = b.Room("lobby").Remove(ctx, "alice")
		require.NoError(t, err)
		require.Equal(t, []string{left, done}, alice.asks(join))
		allowed = false
		require.Equal(t, []string{left, done}, alice.asks(`{"type":"refresh","id":1,"token":"t"}`))

		allowed = true
		h := b.API(realtime.InsecureAllowRequests)
		for _, room := range []string{"lobby", "attic", ""} {
			ask := call{method: "POST", path: "/connections/" + alice.conn.ID() + "/join", body: `{"room_id":"` + room + `"}`}
			if room == "" {
				ask = call{method: "POST", path: "/connections/" + alice.conn.ID() + "/leave"}
			}
			code, _, _ := rest(h, ask)
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

// A message that is sent again over another connection goes to its receivers once, and what the
// client sends behind it comes behind it, though the first connection is not done with it.
func TestMessageSentAgain(t *testing.T) {
	var rt *realtime.Manager
	o := realtime.Options{OnMessage: func(ctx context.Context, c *realtime.Conn, in realtime.Inbound) error {
		if string(in.Message.Content) == "1" {
			time.Sleep(time.Second)
		}
		_, err := rt.Send(ctx, in.Target, in.Message)
		return err
	}}
	bubble(t, o, func(t *testing.T, b *bed) {
		rt = b.Manager
		id := realtime.Identity{UserID: "alice"}
		first, bob := b.openV1(id), b.open("bob")
		bob.hush()
		send := func(c *client, n int) {
			require.NoError(t, c.Write(fmt.Appendf(nil, `{"type":"send","id":%d,"user":"bob","content":%d,"message_id":"m%d"}`, n, n, n)))
		}
		send(first, 1)
		send(first, 2)
		synctest.Wait()
		first.Drop()
		second := b.openV1(id)
		second.hush()
		for n := range 3 {
			send(second, n+1)
		}
		time.Sleep(time.Minute)
		require.Equal(t, []string{"chat 1", "chat 2", "chat 3"}, bob.got())
		require.Len(t, second.raw(), 3)
		mallory := b.openV1(realtime.Identity{UserID: "mallory"})
		send(mallory, 1)
		time.Sleep(time.Minute)
		require.Equal(t, []string{"chat 1"}, bob.got(), "ids of others are others'")
	})
}

// A room that a client has asked for itself is not the REST interface's to leave.
func TestRoomOfRestThatTheClientAsksFor(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.hush()
		h := b.API(realtime.InsecureAllowRequests)
		move := func(room string) {
			t.Helper()
			code, _, _ := rest(h, call{
				method: "POST", path: "/connections/" + alice.conn.ID() + "/join", body: `{"room_id":"` + room + `"}`,
			})
			require.Equal(t, http.StatusOK, code)
		}
		move("one")
		require.Equal(t, []string{`{"message_type":"joined","room":"one"}`}, alice.raw())
		require.Equal(t, []string{`{"message_type":"reply","id":1}`}, alice.asks(`{"type":"join","id":1,"room":"one"}`))
		move("two")
		require.Equal(t, []string{"one", "two"}, alice.conn.Rooms())
		move("three")
		require.Equal(t, []string{"one", "three"}, alice.conn.Rooms())
		require.Equal(t, []string{
			`{"message_type":"joined","room":"two"}`,
			`{"message_type":"left","room":"two"}`, `{"message_type":"joined","room":"three"}`,
		}, alice.raw())
	})
}

// Whatever error a handler returns, it costs its client an answer and nobody else anything.
func TestErrorsOfHandlers(t *testing.T) {
	var nothing *realtime.Error
	errs := map[string]error{
		"nil": nothing, "wrapped nil": fmt.Errorf("x: %w", nothing), "no code": &realtime.Error{Message: "m"},
		"of another client": &realtime.ClientError{Code: "forbidden", Message: "m"}, "panics": panicky{},
	}
	o := realtime.Options{OnCall: func(_ context.Context, _ *realtime.Conn, in realtime.Inbound) (json.RawMessage, error) {
		return nil, errs[in.Method]
	}}
	bubble(t, o, func(t *testing.T, b *bed) {
		for method := range errs {
			alice := b.openV1(realtime.Identity{UserID: "alice"})
			alice.hush()
			frames := alice.asks(`{"type":"call","id":1,"method":"` + method + `"}`)
			if method == "panics" {
				alice.requireEnd(realtime.CloseInternal)
				continue
			}
			require.Equal(t, []string{
				`{"message_type":"error","id":1,"content":{"code":"internal","message":"internal error"}}`,
			}, frames, method)
		}
	})
}

// panicky is an error that panics when it is asked what it is.
type panicky struct{}

func (panicky) Error() string { return "panicky" }
func (panicky) Is(error) bool { panic("asked") }
func (panicky) As(any) bool   { panic("asked") }

// A handler that waits for its client, whose answer is behind more messages than are kept, is told.
func TestCallBehindAFullBacklog(t *testing.T) {
	var failed []error
	o := realtime.Options{
		InboundRate: -1,
		OnMessage: func(ctx context.Context, c *realtime.Conn, in realtime.Inbound) error {
			if string(in.Message.Content) == "0" {
				_, err := c.Call(ctx, "confirm", nil)
				failed = append(failed, err)
				_, err = c.Call(ctx, "confirm", nil)
				failed = append(failed, err)
				_, err = c.Ping(ctx)
				failed = append(failed, err)
			}
			return nil
		},
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.hush()
		for i := range 200 {
			require.NoError(t, alice.Write(fmt.Appendf(nil, `{"type":"send","id":%d,"all":true,"content":%d}`, i, i)))
		}
		synctest.Wait()
		require.Len(t, failed, 3)
		for _, err := range failed {
			require.ErrorIs(t, err, realtime.ErrBacklog)
		}
		require.Len(t, alice.raw(), 202, "the calls, and an answer for each")
		_, err := alice.conn.Ping(t.Context())
		require.NoError(t, err, "and then it is heard again")
	})
}

// What a client must not miss is not dropped for messages, and bounded like them.
func TestCallsAndLeftInAFullQueue(t *testing.T) {
	o := realtime.Options{QueueMessages: 200, Slow: realtime.SlowDropOldest}
	bubble(t, o, func(t *testing.T, b *bed) {
		transport, far := realtime.Pipe(realtime.V1)
		alice := b.attach(transport, far, realtime.Identity{UserID: "alice"})
		flood := func(n int) {
			for range n {
				_, err := b.Send(t.Context(), realtime.ToUser("alice"), realtime.Message{Binary: make([]byte, 4<<10)})
				require.NoError(t, err)
			}
		}
		flood(150)
		done := make(chan error)
		go func() {
			_, err := alice.conn.Call(t.Context(), "m", nil)
			done <- err
		}()
		synctest.Wait()
		flood(400)
		alice.unstall()
		synctest.Wait()
		require.Contains(t, strings.Join(alice.raw(), ""), `{"message_type":"call","id":1,"method":"m"}`)
		require.NoError(t, alice.Write([]byte(`{"type":"reply","id":1}`)))
		require.NoError(t, <-done)

		transport, far = realtime.Pipe(realtime.V1)
		bob := b.attach(transport, far, realtime.Identity{UserID: "bob"})
		for range 50_000 {
			if _, err := b.Join(t.Context(), bob.conn.ID(), "lobby"); err != nil {
				break
			}
			_, _ = b.Leave(t.Context(), bob.conn.ID(), "lobby")
		}
		require.LessOrEqual(t, bob.conn.Info().Queued, 200)
		synctest.Wait()
		bob.unstall()
		bob.requireEnd(realtime.CloseSlow)
	})
}

// Nothing of a message that waits for a handler, or that the application keeps, lies in what is
// read over by the next one.
func TestWhatIsKeptIsOnesOwn(t *testing.T) {
	var kept []string
	var calls []json.RawMessage
	release := make(chan struct{})
	o := realtime.Options{
		OnMessage: func(_ context.Context, _ *realtime.Conn, in realtime.Inbound) error {
			<-release
			kept = append(kept, string(in.Message.Binary))
			return nil
		},
		OnCall: func(_ context.Context, _ *realtime.Conn, in realtime.Inbound) (json.RawMessage, error) {
			calls = append(calls, in.Message.Content)
			return nil, nil
		},
	}
	synctest.Test(t, func(t *testing.T) {
		release = make(chan struct{})
		b := newBed(t, o)
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		header := `{"type":"send","all":true}`
		for i := range 3 {
			require.NoError(t, alice.WriteBinary(append([]byte{byte(len(header))}, header+strings.Repeat(fmt.Sprint(i), 100)...)))
		}
		time.Sleep(10 * time.Second) // the handler has had the right to read for long enough
		close(release)
		synctest.Wait()
		for i := range 3 {
			require.Equal(t, strings.Repeat(fmt.Sprint(i), 100), kept[i])
		}
		for i := range 3 {
			require.NoError(t, alice.Write(fmt.Appendf(nil, `{"type":"call","method":"m","content":"%d%s"}`, i, strings.Repeat("x", i))))
			synctest.Wait()
		}
		require.Equal(t, []json.RawMessage{[]byte(`"0"`), []byte(`"1x"`), []byte(`"2xx"`)}, calls)

		carol := b.openV1(realtime.Identity{UserID: "carol"})
		var answers []json.RawMessage
		for i := range 3 {
			done := make(chan json.RawMessage)
			go func() {
				p, _ := carol.conn.Call(t.Context(), "m", nil)
				done <- p
			}()
			synctest.Wait()
			require.NoError(t, carol.Write(fmt.Appendf(nil, `{"type":"reply","id":%d,"content":"%d"}`, i+1, i)))
			answers = append(answers, <-done)
		}
		require.Equal(t, []json.RawMessage{[]byte(`"0"`), []byte(`"1"`), []byte(`"2"`)}, answers)
		require.NoError(t, b.Close())
	})
}

// A broker may carry publications as JSON.
func TestPublicationAsJSON(t *testing.T) {
	for _, m := range []broker.Message{
		{Type: "chat", Sender: "alice", ID: "1", Content: json.RawMessage(`{"a":1}`), Time: time.Unix(1, 0).UTC()},
		{Type: "frame", Binary: []byte{0, 255}}, {Type: "frame", Binary: []byte{}}, {Type: "poke"},
	} {
		p, err := json.Marshal(broker.Publication{Target: broker.Target{Rooms: []string{"lobby"}}, Message: m})
		require.NoError(t, err)
		var back broker.Publication
		require.NoError(t, json.Unmarshal(p, &back))
		require.Equal(t, m, back.Message, "%s", p)
	}
}
