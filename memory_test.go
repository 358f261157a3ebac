package realtime

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/recovery"
	"github.com/realtime-go/realtime/internal/session"
)

// A peer that only sends is as slow as it sends: the bytes that it reads do not count. Sending does
// not help a peer that does not read.
func TestSlownessOfSenders(t *testing.T) {
	sends := load{half: session.HalfMessage, lately: progress{sent: 5 << 10, half: true}}
	stops := load{half: session.HalfMessage, lately: progress{half: true}}
	reads := load{queue: 1 << 20, lately: progress{read: 300, waits: true}}
	talks := load{queue: 1 << 20, lately: progress{sent: 1 << 20, waits: true}}
	require.Less(t, sends.slowness(), reads.slowness())
	require.Greater(t, stops.slowness(), reads.slowness())
	require.Greater(t, talks.slowness(), stops.slowness())
}

// A peer that had nothing to read or to send until now is faster than one that reads a kilobyte a
// second, and so is one of which much is remembered. Of two such peers, the one with more is
// slower.
func TestSlownessOfIdlePeers(t *testing.T) {
	slow := load{queue: 50 << 10, lately: progress{read: 400, waits: true}}
	loud := load{queue: 1 << 10, lately: progress{waits: true}}
	for _, idle := range []load{
		{queue: 64 << 10}, {half: 80 << 10}, {known: recovery.MaxBytes},
		{queue: 300, lately: progress{half: true}},
		{half: session.HalfMessage, lately: progress{waits: true}},
	} {
		require.Less(t, idle.slowness(), slow.slowness(), "%+v", idle)
		require.Less(t, idle.slowness(), loud.slowness(), "%+v", idle)
		more := load{
			queue: 2 * idle.queue, half: 2 * idle.half, known: 2 * idle.known, lately: idle.lately,
		}
		require.Less(t, idle.slowness(), more.slowness())
	}
}
