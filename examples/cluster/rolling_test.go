package main

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestRollingRestart restarts each node under load, then kills one, stops Redis for longer than a
// call may take, and kills Redis. Nothing that was acknowledged is lost, arrives twice or out of
// order, and nobody is seen leaving.
func TestRollingRestart(t *testing.T) {
	r := newRig(t, 5*time.Second)
	tr := newTraffic(r, 9)
	tr.write(3, 5*time.Millisecond)
	tr.flow(20)
	step := func(what string) {
		t.Helper()
		t.Log(time.Now().Format("15:04:05.000"), what)
	}
	for _, n := range r.nodes {
		step("restart of " + n.options.name)
		n.stop()
		require.NoError(t, n.start())
		tr.flow(20)
	}
	step("agree")
	tr.agree()
	step("kill -9 of red")
	require.NoError(t, r.nodes[0].kill())
	tr.flow(20)
	require.NoError(t, r.nodes[0].start())
	step("agree")
	tr.agree()
	step("redis stops")
	require.NoError(t, r.redis.cmd.Process.Signal(syscall.SIGSTOP))
	time.Sleep(5 * time.Second)
	require.NoError(t, r.redis.cmd.Process.Signal(syscall.SIGCONT))
	step("redis goes on")
	tr.flow(20)
	step("redis is killed")
	r.redis.kill()
	require.NoError(t, r.redis.begin("redis-server", t.Output()))
	tr.flow(20)
	step("agree")
	tr.agree()
	step("settle")
	tr.settle()
}
