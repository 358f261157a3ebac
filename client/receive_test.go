package client_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// TestPingAndReceive tests that after a ping everything that the server had before is received, and
// that Receive returns it without waiting.
func TestPingAndReceive(t *testing.T) {
	withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
		c, err := w.tryDial(t.Context(), "alice", client.DialOptions{})
		require.NoError(t, err)
		defer c.Close()
		for range 3 {
			_, err := w.rt.Send(t.Context(), realtime.ToUser("alice"), realtime.Message{Type: "news"})
			require.NoError(t, err)
		}
		_, err = c.Ping(t.Context())
		require.NoError(t, err)
		over, cancel := context.WithCancel(t.Context())
		cancel()
		for range 3 {
			msg, err := c.Receive(over)
			require.NoError(t, err)
			require.Equal(t, "news", msg.Type)
		}
		_, err = c.Receive(over)
		require.ErrorIs(t, err, context.Canceled)

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		_, err = c.Receive(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Minute, time.Since(began))
		require.NoError(t, c.Close())
		_, err = c.Receive(t.Context())
		require.ErrorIs(t, err, realtime.ErrClosed)
		_, err = c.Ping(t.Context())
		require.ErrorIs(t, err, realtime.ErrClosed)
	})
}
