package main

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestKill kills a process without warning while two clients write to each other through the
// balancer. They reconnect and go on, and each gets everything once and in order. Later nobody who
// came back is seen leaving, when the members of the killed node are given up.
func TestKill(t *testing.T) {
	r := newRig(t, 2*time.Second)
	tr := newTraffic(r, 2)
	tr.write(2, 10*time.Millisecond)
	tr.flow(10)
	first := r.nodes[0]
	if tr.at(first.options.name) == 0 {
		first = r.nodes[1] // of three nodes, two clients are connected to two
	}
	require.NoError(t, first.kill())
	tr.flow(10)
	tr.agree()
	require.Zero(t, tr.at(first.options.name))
	require.NoError(t, first.start())
	tr.flow(10)
	tr.settle()
}

// TestCommand starts the command, and ends it with an interrupt. It ends what it has started.
func TestCommand(t *testing.T) {
	requireRedis(t)
	cmd := command(t, "-addr", "127.0.0.1:0")
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines, group := bufio.NewScanner(stderr), ""
	for lines.Scan() {
		if _, addr, found := strings.Cut(lines.Text(), "open http://"); found {
			group, _, _ = strings.Cut(addr, " ")
			break
		}
	}
	resp, err := http.Get("http://" + group + "/realtime.js")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.NoError(t, resp.Body.Close())
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	_, err = io.Copy(io.Discard, stderr) // until nobody has it: redis-server and the nodes inherit it
	require.NoError(t, err)
	require.NoError(t, cmd.Wait())
	left, err := os.ReadDir(cmd.Env[0][len("TMPDIR="):])
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestWithoutRedis requires that the command says how to install what is missing.
func TestWithoutRedis(t *testing.T) {
	cmd := command(t, "-addr", "127.0.0.1:0")
	cmd.Env = append(cmd.Env, "PATH=")
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
	require.Equal(t, 1, strings.Count(string(out), "\n"), "%s", out)
	require.Contains(t, string(out), "apt-get install redis-server")
}

// command returns the command, with a temporary folder of its own.
func command(t *testing.T, args ...string) *exec.Cmd {
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, args...)
	cmd.Env = append([]string{"TMPDIR=" + t.TempDir(), commandEnv + "=1"}, os.Environ()...)
	cmd.Env = append(cmd.Env, cmd.Env[0])
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	return cmd
}
