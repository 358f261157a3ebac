package realtime_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// crowdSize returns how many connections of n there can be, as each takes two descriptors.
func crowdSize(t *testing.T, n int) int {
	if raceDetector {
		n /= 10
	}
	var files syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files))
	if most := int(min(files.Cur, 1<<20))/2 - 1000; n > most {
		t.Logf("%d connections in place of %d: %d descriptors are allowed", most, n, files.Cur)
		n = most
	}
	return n
}

// 10,000 clients that never read while their room talks, and 5,000 half handshakes, leave
// everybody else at full service, in the same room and in another.
func TestCrowdOfTheDead(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of connections")
	}
	f := loopback(t)
	f.pace = 200 * time.Millisecond // each word goes to all of the crowd
	a := newArena(t, realtime.Options{}, f)
	var witnesses []*witness
	for i := range 100 {
		witnesses = append(witnesses, a.witness(fmt.Sprint("near", i), true),
			a.witness(fmt.Sprint("far", i, "@hall"), true))
	}
	a.measure()
	heap := heapBytes()

	n := crowdSize(t, 15_000)
	silent, half := n*2/3, n/3
	torn := half / 10
	require.NoError(t, together(silent, func(i int) error {
		res, c, err := a.ask(handshake(""))
		if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
			return fmt.Errorf("%v: %w", res, err)
		}
		if i < torn {
			_, err = io.WriteString(c, "\x81")
		}
		return err
	}))
	begun := make([]net.Conn, half)
	require.NoError(t, together(half, func(i int) (err error) {
		if begun[i], err = a.reach(); err == nil {
			_, err = io.WriteString(begun[i], "GET /ws HT")
		}
		return err
	}))

	const messages = 100
	for i := range messages {
		for _, room := range []string{"lobby", "hall"} {
			_, err := a.rt.Send(t.Context(), realtime.ToRoom(room), note(fmt.Sprint(i)))
			require.NoError(t, err)
		}
		for _, w := range witnesses {
			w.until(t, func() bool { return w.next["server"] == i+1 })
		}
	}
	require.Less(t, heapBytes()-heap, int64(n)*(32<<10))
	require.Less(t, a.rt.Stats().QueuedBytes, int64(1<<20), "a message counts once")

	for _, nc := range begun { // the server has ended them, or does so soon
		_, err := io.ReadAll(nc)
		require.NoError(t, err, "still open")
	}
	a.eventually(func() bool { return a.rt.Stats().Ended.Protocol == uint64(torn) })
	for _, w := range witnesses {
		require.Equal(t, messages, w.due("server"))
		w.leave(t)
	}
	a.peace.Conns -= len(witnesses)
	a.peace.Users -= len(witnesses)
	a.peace.Rooms--
	a.settle()
}

// heapBytes is what is in use after a collection.
func heapBytes() int64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}
