package redis_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker/redis"
)

// server is a process of redis-server.
type server struct {
	t    testing.TB
	dir  string
	port int
	args []string
	cmd  *exec.Cmd
}

// start starts a server on a free port. It ends with the test.
func start(t testing.TB, args ...string) *server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	require.NoError(t, l.Close())
	s := &server{t: t, dir: t.TempDir(), port: port, args: args}
	s.begin()
	t.Cleanup(s.kill)
	return s
}

// begin starts the process and waits until it answers.
func (s *server) begin() {
	s.t.Helper()
	args := append([]string{
		"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir, "--save", "",
		"--logfile", filepath.Join(s.dir, "log"), "--enable-debug-command", "yes",
	}, s.args...)
	s.cmd = exec.Command("redis-server", args...)
	require.NoError(s.t, s.cmd.Start())
	require.Eventually(s.t, func() bool { return s.try("PING") == nil }, 20*time.Second, 10*time.Millisecond)
}

// kill ends the process without warning.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// empty removes its files.
func (s *server) empty() {
	entries, err := os.ReadDir(s.dir)
	require.NoError(s.t, err)
	for _, e := range entries {
		require.NoError(s.t, os.RemoveAll(filepath.Join(s.dir, e.Name())))
	}
}

func (s *server) addr() string { return fmt.Sprint("127.0.0.1:", s.port) }

// client returns a client of the server.
func (s *server) client() (rueidis.Client, error) {
	return rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{s.addr()}, DisableCache: true, ForceSingleClient: true,
	})
}

func (s *server) try(words ...string) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Do(context.Background(), c.B().Arbitrary(words...).Build()).Error()
}

// do runs a command.
func (s *server) do(words ...string) rueidis.RedisResult {
	s.t.Helper()
	c, err := s.client()
	require.NoError(s.t, err)
	defer c.Close()
	r := c.Do(context.Background(), c.B().Arbitrary(words...).Build())
	require.NoError(s.t, r.Error())
	return r
}

// options returns options of a broker on the server.
func (s *server) options() *redis.Options {
	return &redis.Options{Addrs: []string{s.addr()}, Logger: slog.New(slog.DiscardHandler)}
}
