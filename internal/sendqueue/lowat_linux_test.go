//go:build !realtime_portable

package sendqueue

import (
	"math"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/tcptest"
)

// For a peer that never reads, the kernel buffers little. The rest waits in the queue.
func TestKeepLittle(t *testing.T) {
	var wg sync.WaitGroup
	fs := NewFlushers(wg.Go)
	server, _ := tcptest.Pair(t)
	cfg := Config{MaxMessages: math.MaxInt, MaxBytes: 64 << 20, Flushers: fs}
	r := newRigOn(t, cfg, nil, tcpWire{server})
	t.Cleanup(func() {
		fs.Close()
		wg.Wait()
	})
	r.Start()
	frame := NewFrame(OpBinary, make([]byte, 8<<10))
	for range 1000 {
		r.give(frame, Message, Disconnect)
	}
	r.mu.Lock()
	for r.state != Owned {
		r.mu.Unlock()
		runtime.Gosched()
		r.mu.Lock()
	}
	r.mu.Unlock()
	taken := 1000*frame.Len() - r.Counts().QueuedBytes
	require.Less(t, taken, 3<<20, "bytes accepted for a peer that does not read")
}
