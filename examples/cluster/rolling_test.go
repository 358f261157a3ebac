//go:build unix

package main

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/long"
)

// TestRollingRestart restarts each node under load, kills one, stops Redis for longer than a call may
// take, and kills and restarts Redis. Nothing that was acknowledged is lost, arrives twice or out of
// order, and nobody is seen leaving. The proof does so several times, with more users.
func TestRollingRestart(t *testing.T) {
	r := newRig(t, 10*time.Second)
	tr := newTraffic(r, long.Of(9, 9, 60))
	tr.write(long.Of(3, 3, 12), 10*time.Millisecond)
	tr.flow(20)
	fault := func(name string, do func()) {
		t.Helper()
		began := time.Now()
		do()
		took := time.Since(began)
		tr.flow(20)
		t.Logf("%s: %d ms, and all have all messages %d ms later", name,
			took.Milliseconds(), (time.Since(began) - took).Milliseconds())
	}
	for range long.Of(1, 1, 5) {
		for _, n := range r.nodes {
			fault("restart of "+n.options.name, func() {
				n.stop()
				require.NoError(t, n.start())
			})
		}
		dead := r.nodes[tr.rounds%len(r.nodes)]
		fault("kill -9 of "+dead.options.name, func() { require.NoError(t, dead.kill()) })
		require.NoError(t, dead.start())
		fault("Redis stops", func() {
			require.NoError(t, r.redis.cmd.Process.Signal(syscall.SIGSTOP))
			time.Sleep(long.Of[time.Duration](5, 5, 8) * time.Second)
			require.NoError(t, r.redis.cmd.Process.Signal(syscall.SIGCONT))
		})
		fault("kill -9 and restart of Redis", r.restartRedis)
		tr.agree()
		tr.rounds++
	}
	tr.settle()
}

// TestRestartOfRedis restarts a Redis of which the nodes do not know that it has lost nothing. All
// are told that they may have missed something, and get what they do not have.
func TestRestartOfRedis(t *testing.T) {
	r := newRigWith(t, nodeOptions{resume: 10 * time.Second})
	tr := newTraffic(r, 6)
	tr.write(2, 10*time.Millisecond)
	tr.flow(20)
	tr.gaps(realtime.ReasonEpoch)
	r.restartRedis()
	tr.flow(20)
	for _, m := range tr.members {
		m.mu.Lock()
		gaps := m.gaps
		m.mu.Unlock()
		require.Equal(t, 1, gaps, m.name)
	}
	tr.settle()
}

// restartRedis kills Redis, and starts it again with its files.
func (r *rig) restartRedis() {
	r.t.Helper()
	r.redis.kill()
	require.NoError(r.t, r.redis.begin(r.t.Output()))
}
