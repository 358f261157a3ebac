package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

type sum struct{ A, B int }

func arithmetic() realtime.Options {
	var r realtime.Router
	realtime.Handle(&r, "add", func(_ context.Context, _ *realtime.Conn, s sum) (int, error) {
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
		content, err := c.Call(ctx, method, json.RawMessage(`{"a":1}`))
		if no, ok := errors.AsType[*realtime.ClientError](err); ok {
			return nil, &realtime.Error{Code: no.Code, Message: no.Message}
		}
		return content, err
	})
	return realtime.Options{OnCall: r.OnCall}
}

func TestCall(t *testing.T) {
	bubble(t, arithmetic(), func(t *testing.T, w *world) {
		alice := w.dial("alice")
		n, err := client.Call[int](t.Context(), alice.Client, "add", sum{1, 2})
		require.NoError(t, err)
		require.Equal(t, 3, n)
		_, err = client.Call[int](t.Context(), alice.Client, "add", sum{A: -1})
		require.Equal(t, "negative", code(err))
		_, err = client.Call[string](t.Context(), alice.Client, "add", nil)
		require.ErrorContains(t, err, "answer to add")
		_, err = client.Call[int](t.Context(), alice.Client, "add", func() {})
		require.ErrorContains(t, err, "call of add")
		content, err := alice.Call(t.Context(), "add", nil)
		require.NoError(t, err)
		require.Equal(t, `0`, string(content))
	})
}

// A call that is under way when the connection ends is not repeated. One that has not begun waits.
func TestCallAtACut(t *testing.T) {
	bubble(t, arithmetic(), func(t *testing.T, w *world) {
		alice := w.dial("alice")
		failed := make(chan error)
		go func() { _, err := alice.Call(t.Context(), "slow", nil); failed <- err }()
		synctest.Wait()
		w.setDown(true)
		w.cut()
		require.Equal(t, client.ErrDisconnected, <-failed)
		go func() { _, err := client.Call[int](t.Context(), alice.Client, "add", sum{}); failed <- err }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := alice.Call(ctx, "slow", nil)
		require.Equal(t, context.DeadlineExceeded, err)
		w.setDown(false)
		require.NoError(t, <-failed)
	})
}

func TestServerCalls(t *testing.T) {
	o := client.DialOptions{OnCall: func(_ context.Context, method string, content json.RawMessage) (json.RawMessage, error) {
		switch method {
		case "echo":
			return content, nil
		case "nothing":
			return nil, nil
		case "busy":
			return nil, fmt.Errorf("at home: %w", &realtime.Error{Code: "away", Message: "not here"})
		case "rubbish":
			return json.RawMessage("{"), nil
		case "large":
			return json.RawMessage(`"` + strings.Repeat("x", 65536) + `"`), nil
		case "long":
			return nil, &realtime.Error{Code: "long", Message: strings.Repeat("x", 65536)}
		}
		return nil, errors.New("a secret")
	}}
	bubble(t, arithmetic(), func(t *testing.T, w *world) {
		alice, deaf := w.dialWith("alice", o), w.dial("bob")
		for method, want := range map[string]string{
			"echo": `{"a":1}`, "nothing": `null`, "busy": "away", "rubbish": "internal", "large": "too_large",
			"long": "too_large", "other": "internal",
		} {
			content, err := alice.Call(t.Context(), "ask", json.RawMessage(`"`+method+`"`))
			if err != nil {
				content = json.RawMessage(code(err))
				require.NotContains(t, err.Error(), "secret")
			}
			require.Equal(t, want, string(content), method)
		}
		_, err := deaf.Call(t.Context(), "ask", json.RawMessage(`"echo"`))
		require.Equal(t, "unknown_method", code(err))
	})
}

// The client may call in the answer to a call, and no more than 16 run at a time.
func TestServerCallsAreBounded(t *testing.T) {
	var running atomic.Int32
	o := client.DialOptions{OnCall: func(context.Context, string, json.RawMessage) (json.RawMessage, error) {
		running.Add(1)
		defer running.Add(-1)
		time.Sleep(time.Second)
		return json.RawMessage(`1`), nil
	}}
	bubble(t, realtime.Options{}, func(t *testing.T, w *world) {
		w.dialWith("alice", o)
		for range 2 {
			answers := make(chan string, 100)
			for range 100 {
				go func() { answers <- w.ask("wait") }()
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

// ask calls the only client, and returns its answer or the code of its error.
func (w *world) ask(method string) string {
	for c := range w.rt.LocalConns() {
		content, err := c.Call(w.t.Context(), method, nil)
		if err != nil {
			return code(err)
		}
		return string(content)
	}
	return "nobody"
}

// A call of the server's ends with its connection, and is waited for by Close.
func TestServerCallEnds(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, w *world) {
		ended := make(chan error, 1)
		alice := w.dialWith("alice", client.DialOptions{
			OnCall: func(ctx context.Context, _ string, _ json.RawMessage) (json.RawMessage, error) {
				<-ctx.Done()
				time.Sleep(time.Minute)
				ended <- context.Cause(ctx)
				return nil, nil
			},
		})
		call := func() {
			go w.ask("wait")
			synctest.Wait()
		}
		call()
		began := time.Now()
		w.cut()
		alice.back()
		require.Less(t, time.Since(began), time.Minute, "nobody waits for it")
		require.Equal(t, "end 1006", brief(<-ended))
		call()
		require.NoError(t, alice.Close())
		require.Len(t, ended, 1, "Close has waited")
		require.Equal(t, realtime.ErrClosed, <-ended)
	})
}
