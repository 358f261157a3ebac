package realtime

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The expiry in a token is a time of the wall clock. The deadline is measured from the moment when
// the Manager gets the identity.
func TestDeadlineDoesNotStep(t *testing.T) {
	now := time.Now()
	require.Contains(t, now.String(), " m=", "now has a monotonic clock reading")
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
