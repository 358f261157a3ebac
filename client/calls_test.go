package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

type addRequest struct{ A, B int }

func callOptions() realtime.Options {
	var r realtime.Router
	realtime.Handle(&r, "add", func(_ context.Context, _ *realtime.Conn, s addRequest) (int, error) {
		if s.A < 0 {
			return 0, &realtime.Error{Code: "negative", Message: "no"}
		}
		return s.A + s.B, nil
	})
	realtime.Handle(&r, "slow", func(ctx context.Context, _ *realtime.Conn, _ struct{}) (int, error) {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
		return 1, nil
	})
	realtime.Handle(&r, "ask", func(ctx context.Context, c *realtime.Conn, method string) (json.RawMessage, error) {
		content, err := realtime.Call[json.RawMessage](ctx, c, method, json.RawMessage(`{"a":1}`))
		if no, ok := errors.AsType[*realtime.ClientError](err); ok {
			return nil, &realtime.Error{Code: no.Code, Message: no.Message}
		}
		return content, err
	})
	return realtime.Options{OnMessage: r.OnMessage}
}

func TestCall(t *testing.T) {
	withManager(t, callOptions(), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		n, err := client.Call[int](t.Context(), alice.Client, "add", addRequest{1, 2})
		require.NoError(t, err)
		require.Equal(t, 3, n)
		_, err = client.Call[int](t.Context(), alice.Client, "add", addRequest{A: -1})
		require.Equal(t, "negative", codeOf(err))
		_, err = client.Call[string](t.Context(), alice.Client, "add", nil)
		require.ErrorContains(t, err, "answer to add")
		_, err = client.Call[int](t.Context(), alice.Client, "add", func() {})
		require.ErrorContains(t, err, "call of add")
		content, err := client.Call[json.RawMessage](t.Context(), alice.Client, "add", nil)
		require.NoError(t, err)
		require.Equal(t, `0`, string(content))
	})
}

// TestBinaryCalls tests calls with bytes in both directions: the server calls the client, which
// doubles the bytes, while the client calls the server.
func TestBinaryCalls(t *testing.T) {
	var r realtime.Router
	realtime.Handle(&r, "ask", func(ctx context.Context, c *realtime.Conn, p []byte) ([]byte, error) {
		return realtime.Call[[]byte](ctx, c, "double", p)
	})
	realtime.Handle(&r, "size", func(ctx context.Context, c *realtime.Conn, p []byte) (int, error) {
		return realtime.Call[int](ctx, c, "size", p)
	})
	realtime.Handle(&r, "nothing", func(context.Context, *realtime.Conn, any) (any, error) { return nil, nil })
	o := client.DialOptions{OnCall: func(_ context.Context, in realtime.Inbound) (any, error) {
		p := in.Message.Binary
		if in.Message.Content != nil {
			return nil, errors.New("not bytes")
		}
		if in.Method == "size" {
			return len(p), nil
		}
		return append(p, p...), nil
	}}
	withManager(t, realtime.Options{OnMessage: r.OnMessage}, func(t *testing.T, w *testEnv) {
		alice := w.dialWith("alice", o).Client
		for _, p := range [][]byte{[]byte("\x00\xff"), {}, bytes.Repeat([]byte("x"), 20_000)} {
			doubled, err := client.Call[[]byte](t.Context(), alice, "ask", p)
			require.NoError(t, err)
			require.Equal(t, append(slices.Clone(p), p...), doubled)
			n, err := client.Call[int](t.Context(), alice, "size", p)
			require.NoError(t, err)
			require.Equal(t, len(p), n)
		}
		empty, err := client.Call[[]byte](t.Context(), alice, "ask", []byte(nil))
		require.NoError(t, err)
		require.NotNil(t, empty, "empty bytes")
		none, err := client.Call[[]byte](t.Context(), alice, "nothing", nil)
		require.NoError(t, err)
		require.Nil(t, none, "no content")

		_, err = client.Call[int](t.Context(), alice, "ask", []byte("x"))
		require.ErrorContains(t, err, "answer to ask: bytes in place of JSON")
		_, err = client.Call[[]byte](t.Context(), alice, "size", []byte("x"))
		require.ErrorContains(t, err, "answer to size: JSON in place of bytes")
		_, err = client.Call[[]byte](t.Context(), alice, "ask", "x")
		require.Equal(t, "bad_request", codeOf(err))
		_, err = client.Call[[]byte](t.Context(), alice, "ask", make([]byte, 40_000))
		require.Equal(t, "internal", codeOf(err), "the answer of the client is too large")
		_, err = client.Call[[]byte](t.Context(), alice, "ask", make([]byte, 65_536))
		require.ErrorIs(t, err, realtime.ErrTooLarge)
	})
}

// TestCallWhenConnectionEnds tests that a call fails if the connection ends before the answer, and
// that a call without a connection waits for one.
func TestCallWhenConnectionEnds(t *testing.T) {
	withManager(t, callOptions(), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		failed := make(chan error)
		go func() { _, err := client.Call[json.RawMessage](t.Context(), alice.Client, "slow", nil); failed <- err }()
		synctest.Wait()
		w.setDown(true)
		w.cutAll()
		require.Equal(t, client.ErrDisconnected, <-failed)
		go func() { _, err := client.Call[int](t.Context(), alice.Client, "add", addRequest{}); failed <- err }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := client.Call[json.RawMessage](ctx, alice.Client, "slow", nil)
		require.Equal(t, context.DeadlineExceeded, err)
		w.setDown(false)
		require.NoError(t, <-failed)
	})
}

func TestServerCalls(t *testing.T) {
	o := client.DialOptions{OnCall: func(_ context.Context, in realtime.Inbound) (any, error) {
		switch in.Method {
		case "echo":
			return in.Message.Content, nil
		case "nothing":
			return nil, nil
		case "value":
			return map[string]int{"a": 2}, nil
		case "channel":
			return make(chan int), nil
		case "blob":
			return make([]byte, 65536), nil
		case "busy":
			return nil, fmt.Errorf("at home: %w", &realtime.Error{Code: "away", Message: "not here"})
		case "rubbish":
			return json.RawMessage("{"), nil
		case "large":
			return json.RawMessage(`"` + strings.Repeat("x", 65536) + `"`), nil
		case "long":
			return nil, &realtime.Error{Code: "long", Message: strings.Repeat("x", 65536)}
		case "typed nil":
			var none *realtime.Error
			return nil, fmt.Errorf("at home: %w", none)
		case "nil pointer":
			return nil, (*realtime.Error)(nil)
		case "data":
			return nil, &realtime.Error{Code: "long", Data: json.RawMessage(`"` + strings.Repeat("x", 65536) + `"`)}
		}
		return nil, errors.New("a secret")
	}}
	withManager(t, callOptions(), func(t *testing.T, w *testEnv) {
		alice, deaf := w.dialWith("alice", o), w.dial("bob")
		for method, want := range map[string]string{
			"echo": `{"a":1}`, "nothing": ``, "busy": "away", "rubbish": "internal", "large": "too_large",
			"value": `{"a":2}`, "channel": "internal", "blob": "too_large",
			"long": "too_large", "data": "too_large", "other": "internal",
			"typed nil": "internal", "nil pointer": "internal",
		} {
			content, err := client.Call[json.RawMessage](t.Context(), alice.Client, "ask", json.RawMessage(`"`+method+`"`))
			if err != nil {
				content = json.RawMessage(codeOf(err))
				require.NotContains(t, err.Error(), "secret")
			}
			require.Equal(t, want, string(content), method)
		}
		_, err := client.Call[json.RawMessage](t.Context(), deaf.Client, "ask", json.RawMessage(`"echo"`))
		require.Equal(t, "unknown_method", codeOf(err))
	})
}

// TestServerCallsAreLimited tests that no more than 16 calls from the server run at the same time.
func TestServerCallsAreLimited(t *testing.T) {
	var running atomic.Int32
	o := client.DialOptions{OnCall: func(context.Context, realtime.Inbound) (any, error) {
		running.Add(1)
		defer running.Add(-1)
		time.Sleep(time.Second)
		return json.RawMessage(`1`), nil
	}}
	withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
		w.dialWith("alice", o)
		for range 2 {
			answers := make(chan string, 100)
			for range 100 {
				go func() { answers <- w.callClient("wait") }()
			}
			synctest.Wait()
			require.EqualValues(t, 16, running.Load())
			count := map[string]int{}
			for range 100 {
				count[<-answers]++
			}
			require.Equal(t, map[string]int{"1": 16, "busy": 84}, count)
		}
	})
}

// callClient calls a method of the only client. It returns the answer, or the code of the error.
func (w *testEnv) callClient(method string) string {
	for c := range w.rt.LocalConns() {
		content, err := realtime.Call[json.RawMessage](w.t.Context(), c, method, nil)
		if err != nil {
			return codeOf(err)
		}
		return string(content)
	}
	return "no client"
}

// TestServerCallEndsWithConnection tests that the context of a call from the server ends with the
// connection, and that Close waits for the call.
func TestServerCallEndsWithConnection(t *testing.T) {
	withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
		ended := make(chan error, 1)
		alice := w.dialWith("alice", client.DialOptions{
			OnCall: func(ctx context.Context, _ realtime.Inbound) (any, error) {
				<-ctx.Done()
				time.Sleep(time.Minute)
				ended <- context.Cause(ctx)
				return nil, nil
			},
		})
		call := func() {
			go w.callClient("wait")
			synctest.Wait()
		}
		call()
		began := time.Now()
		w.cutAll()
		alice.awaitReconnect()
		require.Less(t, time.Since(began), time.Minute, "the client does not wait for the call")
		require.Equal(t, "end 1006", describeError(<-ended))
		call()
		require.NoError(t, alice.Close())
		require.Len(t, ended, 1, "Close waits for the call")
		require.Equal(t, realtime.ErrClosed, <-ended)
	})
}

// A call may take longer than silence may: the server answers pings meanwhile.
func TestCallLongerThanTheHeartbeat(t *testing.T) {
	var r realtime.Router
	realtime.Handle(&r, "long", func(context.Context, *realtime.Conn, any) (int, error) {
		time.Sleep(10 * time.Minute)
		return 7, nil
	})
	o := realtime.Options{Authorize: realtime.InsecureAllowAll, OnMessage: r.OnMessage}
	withManager(t, o, func(t *testing.T, w *testEnv) {
		n, err := client.Call[int](t.Context(), w.dial("alice").Client, "long", nil)
		require.NoError(t, err)
		require.Equal(t, 7, n)
	})
}
