package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// node is one process of the cluster, as the balancer sees it.
type node struct {
	options nodeOptions
	output  io.Writer
	addr    atomic.Pointer[string] // nil: it gets no connections

	mu    sync.Mutex // held while the process is started or ended
	cmd   *exec.Cmd
	stdin io.Closer // its end tells the process that this one is gone
	ended chan struct{}
}

func newNode(name string, o nodeOptions, output io.Writer) *node {
	o.name = name
	return &node{options: o, output: output}
}

// address returns the address of the node, or an empty one if it does not run.
func (n *node) address() string {
	if addr := n.addr.Load(); addr != nil {
		return *addr
	}
	return ""
}

// start starts the process, unless it runs, and waits until it listens.
func (n *node) start() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.address() != "" {
		return nil
	}
	n.end(os.Kill)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, n.options.args()...)
	cmd.Stderr = n.output
	cmd.WaitDelay = time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Stdout = in
	err = cmd.Start()
	_ = in.Close()
	if err != nil {
		return err
	}
	n.cmd, n.stdin, n.ended = cmd, stdin, make(chan struct{})
	line, err := bufio.NewReader(out).ReadString('\n')
	addr := strings.TrimSpace(line)
	if err == nil {
		n.addr.Store(&addr)
	}
	go func(ended chan struct{}) {
		_ = cmd.Wait()
		n.addr.CompareAndSwap(&addr, nil)
		close(ended)
	}(n.ended)
	if err != nil {
		n.end(os.Kill)
		return fmt.Errorf("node %s has not started: %w", n.options.name, err)
	}
	return nil
}

// kill ends the process without warning.
func (n *node) kill() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.end(os.Kill)
	return nil
}

// stop asks the process to end, and waits for it.
func (n *node) stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.end(syscall.SIGTERM)
}

// end sends a signal, and waits until the process has ended. n.mu is held.
func (n *node) end(how os.Signal) {
	if n.cmd == nil {
		return
	}
	n.addr.Store(nil)
	if n.cmd.Process.Signal(how) != nil {
		_ = n.cmd.Process.Kill() // on systems without SIGTERM
	}
	<-n.ended
	_ = n.stdin.Close()
	n.cmd = nil
}

// redisServer is a process of redis-server, with a folder that goes with it.
type redisServer struct {
	path string
	addr string
	dir  string
	cmd  *exec.Cmd
}

// startRedis starts redis-server on a free port, and waits until it listens. It keeps what it
// acknowledges, also if it is killed.
func startRedis(output io.Writer) (*redisServer, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errors.New("redis-server is not installed: apt-get install redis-server, " +
			"brew install redis, or give the address of one with -redis")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	dir, err := os.MkdirTemp("", "realtime-cluster-")
	if err != nil {
		return nil, err
	}
	s := &redisServer{path: path, addr: "127.0.0.1:" + strconv.Itoa(port), dir: dir}
	if err := s.begin(output); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

func (s *redisServer) begin(output io.Writer) error {
	_, port, _ := net.SplitHostPort(s.addr)
	s.cmd = exec.Command(s.path, "--port", port, "--bind", "127.0.0.1", "--dir", s.dir,
		"--save", "", "--appendonly", "yes", "--appendfsync", "always", "--loglevel", "warning",
		"--maxmemory-policy", "noeviction")
	s.cmd.Stdout, s.cmd.Stderr = output, output
	ownGroup(s.cmd)
	if err := s.cmd.Start(); err != nil {
		return err
	}
	for range 1000 {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			return c.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("redis-server does not listen")
}

// kill ends the process without warning.
func (s *redisServer) kill() {
	if s.cmd != nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

// end ends the process, and removes its files.
func (s *redisServer) end() {
	s.kill()
	_ = os.RemoveAll(s.dir)
}
