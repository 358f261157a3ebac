package client_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// operations are the methods that wait for an answer of the server.
var operations = map[string]func(ctx context.Context, c *client.Client, room string) error{
	"send": func(ctx context.Context, c *client.Client, room string) error {
		return c.Send(ctx, realtime.ToRoom(room), realtime.Message{})
	},
	"call": func(ctx context.Context, c *client.Client, room string) error {
		_, err := client.Call[int](ctx, c, "add", nil)
		return err
	},
	"join":  func(ctx context.Context, c *client.Client, room string) error { return c.Join(ctx, room) },
	"leave": func(ctx context.Context, c *client.Client, room string) error { return c.Leave(ctx, room) },
	"history": func(ctx context.Context, c *client.Client, room string) error {
		_, err := c.History(ctx, room, client.HistoryQuery{})
		return err
	},
	"presence": func(ctx context.Context, c *client.Client, room string) error {
		_, err := c.FetchPresence(ctx, room)
		return err
	},
	"ping": func(ctx context.Context, c *client.Client, room string) error {
		_, err := c.Ping(ctx)
		return err
	},
}

// TestPendingRequests tests that the number of pending requests is limited, on a stalled connection
// and without a connection.
func TestPendingRequests(t *testing.T) {
	for name, ask := range operations {
		for _, connected := range []bool{true, false} {
			t.Run(fmt.Sprint(name, " ", connected), func(t *testing.T) {
				stalled := scripted(t, func(*script, int) { time.Sleep(5 * time.Second) })
				withHandler(t, stalled, func(t *testing.T, w *testEnv) {
					c := w.dial("alice").Client
					if !connected {
						w.setDown(true)
						w.cutAll()
						synctest.Wait()
					}
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					ended := make(chan error, 1000)
					for i := range 1000 {
						go func() { ended <- ask(ctx, c, fmt.Sprint("r", i)) }()
					}
					synctest.Wait()
					require.Empty(t, ended)
					for other, ask := range operations {
						require.ErrorIs(t, ask(ctx, c, "one more"), client.ErrFull, other)
					}
					cancel()
					for range 1000 {
						require.ErrorIs(t, <-ended, context.Canceled)
					}
					short, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					require.ErrorIs(t, ask(short, c, "again"), context.DeadlineExceeded)
				})
			})
		}
	}
}

// TestPendingBytes tests that the size of pending requests is limited, except for the last one, and
// that they keep their order.
func TestPendingBytes(t *testing.T) {
	var heard []string
	withHandler(t, scripted(t, func(s *script, n int) {
		if n == 1 {
			time.Sleep(time.Minute)
			return
		}
		for a := s.receive(); a.Type != "gone"; a = s.receive() {
			heard = append(heard, string(a.Content[:2]))
			s.replyEmpty(a)
		}
	}), func(t *testing.T, w *testEnv) {
		alice := w.dialWith("alice", client.DialOptions{PendingBytes: 100_000, PingInterval: -1})
		sent := make(chan error, 4)
		var want []string
		for i := range 4 {
			msg := realtime.Message{Content: fmt.Appendf(nil, `"%d%030000d"`, i, 0)}
			want = append(want, fmt.Sprintf(`"%d`, i))
			go func() { sent <- alice.Send(t.Context(), realtime.ToAll(), msg) }()
			synctest.Wait()
		}
		require.ErrorIs(t, alice.Send(t.Context(), realtime.ToAll(), realtime.Message{}), client.ErrFull)
		for range 4 {
			require.NoError(t, <-sent)
		}
		require.True(t, slices.Equal(want, heard), "%q", heard)
		require.NoError(t, alice.Send(t.Context(), realtime.ToAll(), realtime.Message{Content: []byte("12")}))
	})
}

// TestRequestsAfterClose tests that all methods return realtime.ErrClosed after Close.
func TestRequestsAfterClose(t *testing.T) {
	withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
		alice := w.dialWith("alice", client.DialOptions{PendingRequests: 1})
		require.NoError(t, alice.Close())
		for name, ask := range operations {
			require.ErrorIs(t, ask(t.Context(), alice.Client, "lobby"), realtime.ErrClosed, name)
		}
	})
}
