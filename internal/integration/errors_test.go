package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// A client receives the time and the data of an Error. Data that cannot be sent is left out, and
// the Error of the application is not changed.
func TestErrorWithTimeAndData(t *testing.T) {
	full := &realtime.Error{
		Code: "busy", Message: "not now", RetryAfter: 1500*time.Millisecond + 1,
		Data: json.RawMessage(`{"jobs":[1, 2]}`),
	}
	errs := map[string]error{
		"full":      fmt.Errorf("wrapped: %w", full),
		"null":      &realtime.Error{Code: "a", Message: "b", Data: json.RawMessage("null")},
		"negative":  &realtime.Error{Code: "a", Message: "b", RetryAfter: -time.Second},
		"for ever":  &realtime.Error{Code: "a", Message: "b", RetryAfter: 1<<63 - 1},
		"no JSON":   &realtime.Error{Code: "a", Message: "b", Data: json.RawMessage(`1,"code":"c"`)},
		"no UTF-8":  &realtime.Error{Code: "a", Message: "b", Data: json.RawMessage("\"\xff\"")},
		"too large": &realtime.Error{Code: "a", Message: "b", Data: json.RawMessage(`"` + strings.Repeat("x", 1024) + `"`)},
	}
	want := map[string]string{
		"full":     `{"code":"busy","message":"not now","retry_ms":1501,"data":{"jobs":[1, 2]}}`,
		"null":     `{"code":"a","message":"b","data":null}`,
		"for ever": `{"code":"a","message":"b","retry_ms":31536000000}`,
	}
	var r realtime.Router
	for name, err := range errs {
		realtime.Handle(&r, name, func(context.Context, *realtime.Conn, any) (any, error) { return nil, err })
		realtime.On(&r, name, func(context.Context, *realtime.Conn, realtime.Inbound, any) error { return err })
	}
	o := realtime.Options{
		Limits: realtime.Limits{QueueBytes: 2048}, OnMessage: r.OnMessage,
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		for name := range errs {
			content := want[name]
			if content == "" {
				content = `{"code":"a","message":"b"}`
			}
			answer := []string{`{"message_type":"error","id":1,"content":` + content + `}`}
			require.Equal(t, answer, alice.request(`{"type":"call","id":1,"method":"`+name+`"}`), name)
			require.Equal(t, answer, alice.request(`{"type":"send","id":1,"all":true,"message_type":"`+name+`"}`), name)
		}
	})
	require.JSONEq(t, `{"jobs":[1,2]}`, string(full.Data))
	require.Len(t, errs["too large"].(*realtime.Error).Data, 1026)
}

// A user who is denied learns for how long, also by a handler that passes the error on. A user who
// was only removed may try again at once.
func TestDeniedForHowLong(t *testing.T) {
	var r realtime.Router
	realtime.Handle(&r, "join", func(ctx context.Context, c *realtime.Conn, room string) (bool, error) {
		_, err := c.Join(ctx, room)
		return false, fmt.Errorf("not yet: %w", err)
	})
	o := realtime.Options{OnMessage: r.OnMessage}
	o.Authorize = func(ctx context.Context, c *realtime.Conn, a realtime.Action) error {
		if a.Room == "left" {
			_, err := c.Manager().Room("left").Remove(ctx, c.UserID())
			require.NoError(t, err)
		}
		return nil
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		_, err := b.Room("vip").Deny(t.Context(), "alice", time.Minute)
		require.NoError(t, err)
		time.Sleep(12*time.Second + 300*time.Microsecond)
		denied := []string{`{"message_type":"error","id":1,"content":{"code":"denied","message":"denied","retry_ms":48000}}`}
		require.Equal(t, denied, alice.request(`{"type":"join","id":1,"room":"vip"}`))
		require.Equal(t, denied, alice.request(`{"type":"call","id":1,"method":"join","content":"vip"}`))
		time.Sleep(48 * time.Second)
		require.Equal(t, []string{`{"message_type":"reply","id":1}`}, alice.request(`{"type":"join","id":1,"room":"vip"}`))
		require.Equal(t, []string{
			`{"message_type":"error","id":1,"content":{"code":"denied","message":"denied"}}`,
		}, alice.request(`{"type":"join","id":1,"room":"left"}`))
	})
}

// The time and the data of an error are those of the client. Odd ones do not hide the error, and
// have bounds.
func TestClientErrorWithTimeAndData(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		say := ""
		alice := b.answering("alice", func(id, _ string) string {
			return `{"type":"error","id":` + id + `,"content":` + say + `}`
		})
		for content, want := range map[string]realtime.ClientError{
			`{"code":"a","message":"b","retry_ms":1500,"data":{"x": 1}}`: {
				Code: "a", Message: "b", RetryAfter: 1500 * time.Millisecond, Data: json.RawMessage(`{"x": 1}`),
			},
			`{"code":"a","retry_ms":0.5,"data":null}`: {
				Code: "a", RetryAfter: time.Millisecond, Data: json.RawMessage(`null`),
			},
			`{"code":"a","retry_ms":-5}`:    {Code: "a"},
			`{"code":"a","retry_ms":1e300}`: {Code: "a", RetryAfter: 365 * 24 * time.Hour},
			`{"code":"a","retry_ms":"x"}`:   {Code: "internal", Message: "no reason given"},
		} {
			say = content
			_, err := realtime.Call[any](t.Context(), alice.conn, "m", nil)
			require.Equal(t, &want, err, content)
		}
	})
}
