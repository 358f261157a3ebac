package redis_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/redis"
)

// A server that was a replica for a while may have lost what it had acknowledged before, although
// its process is the same.
func TestPromotedAgain(t *testing.T) {
	s, other := start(t), start(t)
	a := join(t, s.options())
	a.subscribe("room/a")
	was := a.publish(note("room/a", 1)).Position
	s.do("REPLICAOF", "127.0.0.1", strconv.Itoa(other.port))
	eventually(t, func() bool {
		_, err := a.Publish(t.Context(), note("room/a", 2))
		return err != nil
	})
	s.do("REPLICAOF", "NO", "ONE")
	eventually(t, func() bool {
		_, err := a.Publish(t.Context(), note("room/a", 3))
		return err == nil
	})
	require.NotEqual(t, was.Epoch, a.page("room/a", broker.Query{}).Top.Epoch)
	eventually(t, func() bool { return len(a.losses()) > 0 })
}

// sentinels starts a sentinel for a master, and returns its address.
func sentinel(t *testing.T, master *server) string {
	t.Helper()
	free := start(t)
	free.kill() // its port is free now
	file := filepath.Join(free.dir, "sentinel.conf")
	config := fmt.Sprintf(`port %d
bind 127.0.0.1
dir %s
sentinel monitor main 127.0.0.1 %d 1
sentinel down-after-milliseconds main 500
sentinel failover-timeout main 5000
`, free.port, free.dir, master.port)
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	cmd := exec.Command("redis-server", file, "--sentinel")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return free.addr()
}

// After a failover all streams have new epochs, and everything works at the new master.
func TestFailover(t *testing.T) {
	master := start(t)
	replica := start(t, "--replicaof", "127.0.0.1", strconv.Itoa(master.port))
	eventually(t, func() bool {
		text, err := replica.do("INFO", "replication").ToString()
		return err == nil && len(text) > 0 && strings.Contains(text, "master_link_status:up")
	})
	addr := sentinel(t, master)
	o := &redis.Options{Addrs: []string{addr}, Sentinel: "main"}
	var a, b *node
	a, b = join(t, o), join(t, o)
	a.subscribe("room/a")
	require.NoError(t, a.Listen(t.Context(), "x"))
	was := b.publish(note("room/a", 1)).Position
	eventually(t, func() bool { return len(a.delivered("room/a")) == 1 })
	s := sentinelKnows(t, addr)
	eventually(t, func() bool { return s("SENTINEL", "REPLICAS", "main") }, "the sentinel knows the replica")
	master.kill()
	var out broker.Published
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		all, err := b.Publish(ctx, note("room/a", 2))
		if err == nil {
			out = all[0]
		}
		return err == nil
	}, 60*time.Second, 50*time.Millisecond)
	require.NotEqual(t, was.Epoch, out.Position.Epoch)
	eventually(t, func() bool { return len(a.losses()) == 1 })
	words := contents(b.page("room/a", broker.Query{}))
	require.Contains(t, words, "2")
	eventually(t, func() bool {
		_, err := b.Send(t.Context(), nil, "x")
		return err == nil && len(a.receipts()) > 0
	})
	b.publish(note("room/a", 3))
	eventually(t, func() bool {
		got := a.delivered("room/a")
		return got[len(got)-1] == "3"
	})
}

// sentinelKnows returns a function that reports whether a sentinel answers a command with a list
// that is not empty.
func sentinelKnows(t *testing.T, addr string) func(words ...string) bool {
	t.Helper()
	var port int
	_, err := fmt.Sscanf(addr, "127.0.0.1:%d", &port)
	require.NoError(t, err)
	s := &server{t: t, port: port}
	return func(words ...string) bool {
		all, err := s.do(words...).ToArray()
		return err == nil && len(all) > 0
	}
}
