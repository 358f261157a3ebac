// Package flaky is a network that fails on demand, for tests.
package flaky

import (
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Proxy forwards TCP connections to a server over loopback.
type Proxy struct {
	// Addr is the address on which the proxy listens.
	Addr string

	to string
	ln net.Listener
	wg sync.WaitGroup

	mu      sync.Mutex
	changed sync.Cond
	down    bool
	closed  bool
	conns   map[net.Conn]struct{}
}

// New starts a proxy to an address. The proxy ends with the test.
func New(t testing.TB, to string) *Proxy {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &Proxy{Addr: ln.Addr().String(), to: to, ln: ln, conns: make(map[net.Conn]struct{})}
	p.changed.L = &p.mu
	p.wg.Go(p.serve)
	t.Cleanup(p.close)
	return p
}

func (p *Proxy) serve() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.forward(c) })
	}
}

// forward connects c to the server.
func (p *Proxy) forward(c net.Conn) {
	defer c.Close()
	p.wait()
	s, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer s.Close()
	if !p.track(c, s) {
		return
	}
	defer p.untrack(c, s)
	ended := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{c, s}, {s, c}} {
		p.wg.Go(func() {
			p.copy(way[0], way[1])
			ended <- struct{}{}
		})
	}
	<-ended
}

func (p *Proxy) copy(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.wait()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// wait waits while the network is down.
func (p *Proxy) wait() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.down && !p.closed {
		p.changed.Wait()
	}
}

func (p *Proxy) track(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		p.conns[c] = struct{}{}
	}
	return !p.closed
}

func (p *Proxy) untrack(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.conns, c)
	}
}

// Cut closes all connections, even in the middle of a message.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
}

// Drop stops all traffic until Restore, without an error on either side.
func (p *Proxy) Drop() { p.set(true) }

// Restore forwards the data that has waited since Drop, and all later data.
func (p *Proxy) Restore() { p.set(false) }

func (p *Proxy) set(gone bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = gone
	p.changed.Broadcast()
}

func (p *Proxy) close() {
	_ = p.ln.Close()
	p.mu.Lock()
	p.closed = true
	p.changed.Broadcast()
	p.mu.Unlock()
	p.Cut()
	p.wg.Wait()
}
