package integration_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// calc is a Router with a method, two events and a middleware that records what it has seen.
func calc(seen *[]string) *realtime.Router {
	r := &realtime.Router{}
	trace := func(name string) func(realtime.Handler) realtime.Handler {
		return func(next realtime.Handler) realtime.Handler {
			return func(ctx context.Context, c *realtime.Conn, in realtime.Inbound) (any, error) {
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
	o := realtime.Options{OnMessage: r.OnMessage}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
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
			require.Equal(t, []string{step.want}, alice.request(step.request), step.request)
		}
		for _, request := range []string{
			`{"type":"call","id":1,"method":"add","content":"x"}`,
			`{"type":"send","id":1,"all":true,"message_type":"move","content":[]}`,
		} {
			require.Contains(t, alice.request(request)[0], `"content":{"code":"bad_request","message":"content: it cannot be a JSON `)
		}
		bob := b.open("bob")
		bob.say("hello", "all")
		synctest.Wait()
		require.Equal(t, "hello", seen[len(seen)-1], "a plain client's text")
		bob.say("", "all")
		synctest.Wait()
		require.Empty(t, seen[len(seen)-1], "also if the text is empty")
	})
	require.Equal(t, []string{"outer add", "inner add"}, seen[:2])
	require.Contains(t, seen, "alice[r] {1 2}")
}

// Handlers with the type []byte get and give bytes, for messages to any target and for calls, through
// the same middleware. What is not bytes is refused.
func TestRouterWithBytes(t *testing.T) {
	var seen []string
	var r realtime.Router
	r.Use(func(next realtime.Handler) realtime.Handler {
		return func(ctx context.Context, c *realtime.Conn, in realtime.Inbound) (any, error) {
			result, err := next(ctx, c, in)
			seen = append(seen, fmt.Sprintf("%s%s %q %v", in.Method, in.Message.Type, in.Message.Binary, result))
			return result, err
		}
	})
	realtime.On(&r, "input", func(_ context.Context, _ *realtime.Conn, in realtime.Inbound, p []byte) error {
		seen = append(seen, fmt.Sprintf("%q %t", p, len(in.Target.Rooms) == 0))
		return nil
	})
	realtime.On(&r, "loose", func(_ context.Context, _ *realtime.Conn, _ realtime.Inbound, p any) error {
		seen = append(seen, fmt.Sprintf("%T", p))
		return nil
	})
	realtime.Handle(&r, "double", func(_ context.Context, _ *realtime.Conn, p []byte) ([]byte, error) {
		return append(p, p...), nil
	})
	realtime.Handle(&r, "size", func(_ context.Context, _ *realtime.Conn, p []byte) (int, error) { return len(p), nil })
	realtime.Handle(&r, "number", func(_ context.Context, _ *realtime.Conn, n int) (int, error) { return n, nil })
	bubble(t, realtime.Options{OnMessage: r.OnMessage}, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		const reply = `{"message_type":"reply","id":1}`
		refused := func(why string) string {
			return `{"message_type":"error","id":1,"content":{"code":"bad_request","message":"content: ` + why + `"}}`
		}
		for _, step := range []struct{ header, content, want string }{
			{`{"type":"send","id":1,"server":true,"message_type":"input"}`, "\xff", reply},
			{`{"type":"send","id":1,"room":"r","message_type":"input"}`, "", reply},
			{`{"type":"send","id":1,"server":true,"message_type":"loose"}`, "x", reply},
			{`{"type":"call","id":1,"method":"double"}`, "ab", string(headed(reply, "abab"))},
			{`{"type":"call","id":1,"method":"double"}`, "", string(headed(reply, ""))},
			{`{"type":"call","id":1,"method":"size"}`, "abc", `{"message_type":"reply","id":1,"content":3}`},
			{`{"type":"call","id":1,"method":"number"}`, "1", refused("bytes in place of JSON")},
		} {
			require.Equal(t, []string{step.want}, alice.requestBinary(step.header, step.content), step.header)
		}
		for _, step := range []struct{ request, want string }{
			{`{"type":"call","id":1,"method":"double"}`, string(headed(reply, ""))},
			{`{"type":"call","id":1,"method":"double","content":"YQ=="}`, refused("JSON in place of bytes")},
			{`{"type":"send","id":1,"server":true,"message_type":"input","content":[1]}`, refused("JSON in place of bytes")},
			{`{"type":"send","id":1,"server":true,"message_type":"other"}`,
				`{"message_type":"error","id":1,"content":{"code":"unknown_event","message":"unknown event \"other\""}}`},
		} {
			require.Equal(t, []string{step.want}, alice.request(step.request), step.request)
		}
	})
	require.Equal(t, []string{
		`"\xff" true`, `input "\xff" <nil>`, `"" false`, `input "" <nil>`, "[]uint8", `loose "x" <nil>`,
		`double "ab" [97 98 97 98]`,
	}, seen[:7])
}

// Relay is what happens to messages without a handler, and a handler may call it: with receipts,
// unknown_event for messages to the server, and the receivers on the bill of the client.
func TestRelay(t *testing.T) {
	var r realtime.Router
	var seen []string
	r.Use(func(next realtime.Handler) realtime.Handler {
		return func(ctx context.Context, c *realtime.Conn, in realtime.Inbound) (any, error) {
			seen = append(seen, in.Method+in.Message.Type)
			return next(ctx, c, in)
		}
	})
	realtime.Handle(&r, "add", func(_ context.Context, _ *realtime.Conn, n int) (int, error) { return n + 1, nil })
	realtime.On(&r, "checked", func(ctx context.Context, c *realtime.Conn, in realtime.Inbound, n int) error {
		_, err := realtime.Relay(ctx, c, in)
		return err
	})
	r.NotFound(realtime.Relay)
	require.Panics(t, func() { r.NotFound(realtime.Relay) })
	require.Panics(t, func() { new(realtime.Router).NotFound(nil) })
	requests := []string{
		`{"type":"send","id":1,"room":"hall","content":1,"receipt":true}`,
		`{"type":"send","id":2,"room":"hall","content":1}`,
		`{"type":"send","id":3,"user":"bob","content":1,"receipt":true}`,
		`{"type":"send","id":4,"server":true,"content":1,"receipt":true}`,
		`{"type":"call","id":5,"method":"sub"}`,
		`{"type":"send","id":6,"room":"hall","content":1,"receipt":true,"message_id":"m"}`,
		`{"type":"send","id":7,"room":"hall","content":1,"receipt":true,"message_id":"m"}`,
		`{"type":"send","id":8,"room":"hall","content":1,"receipt":true,"message_type":"checked"}`,
	}
	var answers [2][]string
	for i, handler := range []realtime.Handler{nil, r.OnMessage} {
		o := keeping(10)
		o.OnMessage = handler
		o.Limits.InboundFanout = 1
		bubble(t, o, func(t *testing.T, b *bed) {
			alice, bob := b.openV1(realtime.Identity{UserID: "alice"}), b.open("bob")
			b.join("hall", bob)
			alice.discard()
			for _, request := range requests {
				answers[i] = append(answers[i], epochs.ReplaceAllString(alice.request(request)[0], `"epoch":E`))
			}
			require.Len(t, bob.raw(), 5)
			for range 40 {
				alice.request(`{"type":"send","room":"hall"}`)
			}
			require.NotZero(t, b.Stats().Throttled)
		})
	}
	require.Equal(t, answers[0], answers[1])
	require.Contains(t, answers[0][0], `"offset":1`)
	require.Contains(t, answers[0][3], "unknown_event")
	require.Contains(t, answers[1][7], `"offset":4`)
	require.Contains(t, seen, "sub")
	require.Contains(t, seen, "chat")
}

var epochs = regexp.MustCompile(`"epoch":"[^"]*"`)
