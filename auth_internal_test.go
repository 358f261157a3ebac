package realtime

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A time of expiry that comes out of a token is one of the wall clock. What is counted is how far
// away it is when the identity is given.
func TestDeadlineDoesNotStep(t *testing.T) {
	now := time.Now()
	require.Contains(t, now.String(), " m=", "it has a reading of the clock that does not step")
	for _, far := range []time.Duration{time.Minute, 1000 * time.Hour} {
		at := time.Unix(0, now.UnixNano()).Add(far)
		require.NotContains(t, at.String(), " m=")
		deadline := Identity{ExpiresAt: at}.deadline(now)
		require.Contains(t, deadline.String(), " m=")
		require.Equal(t, far, deadline.Sub(now))
	}
	require.True(t, Identity{}.deadline(now).IsZero())
	require.True(t, Identity{ExpiresAt: time.Unix(1<<62, 0)}.deadline(now).After(now))
}
