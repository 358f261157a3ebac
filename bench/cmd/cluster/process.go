//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/realtime-go/realtime/bench/serve"
)

// cluster is some nodes of one server, and their Redis.
type cluster struct {
	redis *exec.Cmd
	dir   string
	nodes []*node
	speak *dialect
}

type node struct {
	cmd   *exec.Cmd
	stdin io.Closer
	hello serve.Hello
}

// start starts Redis and nodes. Redis writes nothing to disk: what is measured is the nodes.
func start(binary string, n int) (c *cluster, err error) {
	c = &cluster{}
	defer func() {
		if err != nil {
			c.stop()
		}
	}()
	if c.dir, err = os.MkdirTemp("", "bench-cluster-"); err != nil {
		return c, err
	}
	addr, err := c.startRedis()
	if err != nil {
		return c, err
	}
	for range n {
		one, err := startNode(binary, addr)
		if err != nil {
			return c, err
		}
		c.nodes = append(c.nodes, one)
	}
	c.speak = dialects[c.nodes[0].hello.Dialect]
	return c, nil
}

func (c *cluster) startRedis() (addr string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	_ = l.Close()
	c.redis = exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "",
		"--appendonly", "no", "--dir", c.dir, "--loglevel", "warning", "--logfile", filepath.Join(c.dir, "log"))
	c.redis.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := c.redis.Start(); err != nil {
		c.redis = nil
		return "", fmt.Errorf("redis-server: %w", err)
	}
	addr = "127.0.0.1:" + port
	for range 500 {
		if conn, err := net.Dial("tcp", addr); err == nil {
			return addr, conn.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	return "", errors.New("redis-server does not listen")
}

func startNode(binary, redis string) (*node, error) {
	n := &node{cmd: exec.Command(binary)}
	n.cmd.Stderr = os.Stderr
	n.cmd.Env = append(os.Environ(), serve.RedisEnv+"="+redis)
	var err error
	if n.stdin, err = n.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &n.hello)
	}
	if err != nil {
		n.stop()
		return nil, fmt.Errorf("%s prints no address: %w", binary, err)
	}
	return n, nil
}

// stop ends the node, which ends with its standard input.
func (n *node) stop() {
	_ = n.stdin.Close()
	late := time.AfterFunc(5*time.Second, func() { _ = n.cmd.Process.Kill() })
	defer late.Stop()
	_ = n.cmd.Wait()
}

func (c *cluster) stop() {
	for _, n := range c.nodes {
		n.stop()
	}
	if c.redis != nil {
		_ = c.redis.Process.Kill()
		_ = c.redis.Wait()
	}
	if c.dir != "" {
		_ = os.RemoveAll(c.dir)
	}
}

// dial connects a client to the i-th node, counted around.
func (c *cluster) dial(i int) (*client, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return dial(ctx, c.nodes[i%len(c.nodes)].hello.Addr, c.speak, fmt.Sprint("u", i))
}

// cpu returns the processor time of all nodes, and that of Redis.
func (c *cluster) cpu() (nodes, redis time.Duration) {
	for _, n := range c.nodes {
		nodes += cpuOf(n.cmd.Process.Pid)
	}
	return nodes, cpuOf(c.redis.Process.Pid)
}

// cpuOf returns the processor time of a process, from its clock in Linux. The id of that clock is
// computed as in the C library.
func cpuOf(pid int) time.Duration {
	const cpuclockSched = 2
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|cpuclockSched), &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// idle waits until nodes and Redis use almost no processor time: some of the work comes late.
func (c *cluster) idle() {
	for quiet := 0; quiet < 5; {
		nodes, redis := c.cpu()
		time.Sleep(20 * time.Millisecond)
		nodes2, redis2 := c.cpu()
		quiet++
		if nodes2-nodes+redis2-redis > 2*time.Millisecond {
			quiet = 0
		}
	}
}
