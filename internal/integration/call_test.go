package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// Without OnMessage there is no method. A client without permission does not learn that.
func TestCallsAreRefused(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		require.Contains(t, alice.request(`{"type":"call","id":1,"method":"m"}`)[0], `"code":"unknown_method"`)
	})
	var asked []realtime.Action
	o := realtime.Options{
		Authorize: func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
			asked = append(asked, a)
			return realtime.ErrForbidden
		},
		OnMessage: func(context.Context, *realtime.Conn, realtime.Inbound) (any, error) {
			t.Error("called")
			return nil, nil
		},
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		require.Contains(t, alice.request(`{"type":"call","id":1,"method":"m"}`)[0], `"code":"forbidden"`)
		require.Contains(t, alice.request(`{"type":"presence","id":1,"room":"r"}`)[0], `"code":"forbidden"`)
		require.Equal(t, []realtime.Action{
			{Kind: realtime.ActionCall, Method: "m"}, {Kind: realtime.ActionMembers, Room: "r"},
		}, asked)
	})
}

// answers reads the calls that the client receives and answers them.
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

		_, err = realtime.Call[json.RawMessage](t.Context(), alice.conn, "", nil)
		require.ErrorIs(t, err, realtime.ErrInvalidName)
		_, err = realtime.Call[json.RawMessage](t.Context(), alice.conn, "m", json.RawMessage("{"))
		require.ErrorIs(t, err, realtime.ErrInvalidMessage)
		_, err = realtime.Call[json.RawMessage](t.Context(), alice.conn, "m", json.RawMessage(`"`+strings.Repeat("x", 3<<20)+`"`))
		require.ErrorIs(t, err, realtime.ErrTooLarge)
		_, err = realtime.Call[int](t.Context(), alice.conn, "m", func() {})
		require.ErrorContains(t, err, "call of m")

		bob := b.open("bob")
		_, err = realtime.Call[json.RawMessage](t.Context(), bob.conn, "m", nil)
		require.ErrorIs(t, err, realtime.ErrPlainProtocol)

		time.AfterFunc(time.Second, func() { _ = alice.conn.Close(realtime.CloseNormal, "") })
		_, err = realtime.Call[json.RawMessage](t.Context(), alice.conn, "m", nil)
		require.ErrorIs(t, err, realtime.ErrClosed)
		_, err = realtime.Call[json.RawMessage](t.Context(), alice.conn, "m", nil)
		require.ErrorIs(t, err, realtime.ErrClosed)
	})
}

// A handler may call its own client. Messages that arrive meanwhile are handled after it.
func TestCallInsideHandler(t *testing.T) {
	var order []string
	o := realtime.Options{
		OnConnect: func(ctx context.Context, c *realtime.Conn) error {
			_, err := realtime.Call[json.RawMessage](ctx, c, "early", nil)
			require.ErrorIs(t, err, realtime.ErrNotOpen)
			return nil
		},
		OnMessage: func(ctx context.Context, c *realtime.Conn, in realtime.Inbound) (any, error) {
			order = append(order, in.Method+" begins")
			answer, err := realtime.Call[json.RawMessage](ctx, c, "sure", in.Message.Content)
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

// A handler that calls its client gets ErrBacklog if the answer cannot be read, because the backlog
// is full.
func TestCallWithAFullBacklog(t *testing.T) {
	var failed []error
	o := realtime.Options{
		Limits: realtime.Limits{InboundRate: -1},
		OnMessage: func(ctx context.Context, c *realtime.Conn, in realtime.Inbound) (any, error) {
			if string(in.Message.Content) == "0" {
				_, err := realtime.Call[json.RawMessage](ctx, c, "confirm", nil)
				failed = append(failed, err)
				_, err = realtime.Call[json.RawMessage](ctx, c, "confirm", nil)
				failed = append(failed, err)
				_, err = c.Ping(ctx)
				failed = append(failed, err)
			}
			return nil, nil
		},
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
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
		require.NoError(t, err, "then the connection is read again")
	})
}

// Calls and left frames are not dropped in favour of messages, and their number is bounded.
func TestCallsAndLeftInAFullQueue(t *testing.T) {
	o := realtime.Options{Limits: realtime.Limits{QueueMessages: 200}, Slow: realtime.SlowDropOldest}
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
			_, err := realtime.Call[json.RawMessage](t.Context(), alice.conn, "m", nil)
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
