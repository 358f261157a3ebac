package session

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A request to the peer is forgotten when its caller stops waiting.
func TestPendingRequestsAreForgotten(t *testing.T) {
	halfRead(t, func(t *testing.T, _ *half, s *Session) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.Call(ctx, func(uint64) {})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = s.Ping(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Empty(t, s.calls.waiting)
		require.Empty(t, s.pings.waiting)
	})
}

// A pong answers a ping once. Each further pong with the same number counts as a ping of the
// client.
func TestPongAnswersOnce(t *testing.T) {
	var p pings
	ask := func() <-chan response {
		answered, _ := p.pending.begin(func(uint64) {})
		return answered
	}
	first, second := ask(), ask()
	require.True(t, p.answer("2"), "it answers the ping before as well")
	require.NoError(t, (<-first).err)
	require.NoError(t, (<-second).err)
	third := ask()
	for _, repeated := range []string{"2", "1", "0", "4", "x", ""} {
		require.False(t, p.answer(repeated), repeated)
	}
	require.Empty(t, third)
	require.True(t, p.answer("3"))
	require.NoError(t, (<-third).err)
	p.beat()
	require.True(t, p.answer(""), "the pong of a heartbeat")
	require.False(t, p.answer(""))
}
