package main

import (
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/leaktest"
)

// commandEnv makes the test program be the command.
const commandEnv = "REALTIME_CLUSTER_COMMAND"

func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-node") || os.Getenv(commandEnv) != "" {
		main()
		return
	}
	leaktest.Main(m)
}

// rig is a cluster with a server of Redis of its own.
type rig struct {
	*balancer
	t     *testing.T
	redis *redisServer
	url   string // of the balancer
}

func newRig(t *testing.T, resume time.Duration) *rig {
	t.Helper()
	return newRigWith(t, nodeOptions{resume: resume, durable: true})
}

func newRigWith(t *testing.T, o nodeOptions) *rig {
	t.Helper()
	requireRedis(t)
	server, err := startRedis(t.Output())
	require.NoError(t, err)
	t.Cleanup(server.end)
	r := &rig{balancer: &balancer{}, t: t, redis: server}
	t.Cleanup(r.stop)
	o.redis = server.addr
	require.NoError(t, r.start(o, t.Output()))
	web := httptest.NewServer(site(r.balancer))
	t.Cleanup(web.Close)
	r.url = web.URL
	return r
}

func requireRedis(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("no redis-server in PATH: the cluster is not tested")
	}
}

// await waits until a condition holds. Each second in vain it does something about it.
func await(t *testing.T, what string, holds func() bool, do ...func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for began := time.Now(); !holds(); {
		if time.Since(began) > time.Second {
			began = time.Now()
			for _, help := range do {
				help()
			}
		}
		select {
		case <-ctx.Done():
			require.Fail(t, "waited in vain for "+what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
