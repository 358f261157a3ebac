package integration_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/long"
)

// connsWithin returns n, or less if the race detector or the limit of descriptors requires it.
func connsWithin(t *testing.T, n int) int {
	if raceDetector {
		n /= 10
	}
	if most := mostFiles(t) - 1000; n > most {
		t.Logf("%d connections in place of %d: so few descriptors are allowed", most, n)
		n = most
	}
	return n
}

// clientProcess is a process with clients. It has its own limit of descriptors.
type clientProcess struct {
	Addr   string
	Silent int // connections that send nothing
	Torn   int // of those, the ones that send the first byte of a frame
	Half   int // incomplete handshakes
}

// clientProcessEnv makes the test binary such a process, see TestMain.
const clientProcessEnv = "REALTIME_TEST_CLIENTS"

// start starts the process and waits until all clients are connected.
func (c clientProcess) start(t *testing.T) *runningClients {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	plan, err := json.Marshal(c)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env, cmd.Stderr = append(os.Environ(), clientProcessEnv+"="+string(plan)), os.Stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	g := &runningClients{cmd, stdin, bufio.NewScanner(stdout)}
	g.expectLine(t, "all are there")
	return g
}

// runningClients is a started clientProcess.
type runningClients struct {
	cmd   *exec.Cmd
	stdin io.Closer
	lines *bufio.Scanner
}

func (g *runningClients) expectLine(t *testing.T, line string) {
	t.Helper()
	require.True(t, g.lines.Scan(), "the clients have ended: %v", g.lines.Err())
	require.Equal(t, line, g.lines.Text())
}

// stop ends the process and so all of its connections.
func (g *runningClients) stop(t *testing.T) {
	t.Helper()
	require.NoError(t, g.stdin.Close())
	require.NoError(t, g.cmd.Wait())
}

// run is the code of the process. It opens the connections, prints a line, waits until the server
// has ended the incomplete handshakes, prints another line, and ends when its input ends.
func (c clientProcess) run() error {
	all := make([]net.Conn, c.Silent+c.Half)
	err := together(len(all), func(i int) (err error) {
		if all[i], err = net.Dial("tcp", c.Addr); err != nil {
			return err
		}
		if i >= c.Silent {
			_, err = io.WriteString(all[i], "GET /ws HT")
			return err
		}
		if _, err = io.WriteString(all[i], handshake("")); err != nil {
			return err
		}
		answer, err := http.ReadResponse(bufio.NewReaderSize(all[i], 16), nil)
		if err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
			return fmt.Errorf("%v: %w", answer, err)
		}
		if i < c.Torn {
			_, err = io.WriteString(all[i], "\x81")
		}
		return err
	})
	if err != nil {
		return err
	}
	fmt.Println("all are there")
	for _, nc := range all[c.Silent:] {
		if _, err := io.ReadAll(nc); err != nil {
			return err
		}
	}
	fmt.Println("the handshakes are ended")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// 10,000 clients that never read, and 5,000 incomplete handshakes, do not affect the other
// connections, neither in the same room nor in another. The short form has a tenth of both.
func TestManySilentConnections(t *testing.T) {
	f := loopback(t)
	f.pace = 200 * time.Millisecond // each message goes to all clients
	w := newWorld(t, realtime.Options{}, f)
	var members []*checkedClient
	for i := range 100 {
		members = append(members, w.checkedClient(fmt.Sprint("near", i), true),
			w.checkedClient(fmt.Sprint("far", i, "@hall"), true))
	}
	w.takeBaseline()
	heap := heapBytes()
	n := connsWithin(t, long.Of(1500, 15_000, 15_000))
	dead := clientProcess{Addr: f.Addr().String(), Silent: n * 2 / 3, Torn: n / 30, Half: n / 3}
	gathering := dead.start(t)

	messages := long.Of(30, 100, 100)
	for i := range messages {
		for _, room := range []string{"lobby", "hall"} {
			_, err := w.rt.Send(t.Context(), realtime.ToRoom(room), note(fmt.Sprint(i)))
			require.NoError(t, err)
		}
		for _, c := range members {
			c.wait(t, func() bool { return c.numbers["server"] == i+1 })
		}
	}
	require.Less(t, heapBytes()-heap, int64(n)*(32<<10))
	require.Less(t, w.rt.Stats().QueuedBytes, int64(1<<20), "a message counts once")

	gathering.expectLine(t, "the handshakes are ended")
	w.eventually(func() bool { return w.rt.Stats().Ended.Protocol == uint64(dead.Torn) })
	for _, c := range members {
		require.Equal(t, messages, c.expected("server"))
		c.requireAlive(t)
	}
	w.baseline.Conns -= len(members)
	w.baseline.Users -= len(members)
	w.baseline.Rooms--
	gathering.stop(t)
	w.finish()
}

// heapBytes returns the size of the heap after a garbage collection.
func heapBytes() int64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}
