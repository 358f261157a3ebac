//go:build !realtime_portable

package transport

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A connection borrows a decoder for a message only.
func TestDecodersAreBorrowed(t *testing.T) {
	s, url := newEchoServer(t, false)
	for range 5 {
		echo(t, dial(t, url))
		require.Eventually(t, func() bool { return s.upgrader.decoders.count() == 1 },
			10*time.Second, time.Millisecond, "the decoder was returned")
	}
}
