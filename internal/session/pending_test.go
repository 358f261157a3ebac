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
