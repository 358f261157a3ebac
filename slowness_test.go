package realtime

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Who sends a message is as slow as it sends, not as it reads what nobody sends to it; and sending
// does not help one that does not read.
func TestSlownessOfWhoSends(t *testing.T) {
	sends := load{half: halfMessage, lately: progress{sent: 5 << 10}}
	stops := load{half: halfMessage}
	reads := load{weight: 1 << 20, lately: progress{read: 300}}
	talks := load{weight: 1 << 20, lately: progress{sent: 1 << 20}}
	require.Less(t, sends.slowness(), reads.slowness())
	require.Greater(t, stops.slowness(), reads.slowness())
	require.Greater(t, talks.slowness(), stops.slowness())
}
