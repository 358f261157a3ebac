package main

import (
	"net"
	"sync"
	"time"
)

// proxy passes on connections to a server, with a delay in both directions and a limited bandwidth
// to the client.
type proxy struct {
	listener  net.Listener
	server    string
	delay     time.Duration
	bandwidth int
	mu        sync.Mutex
	conns     []net.Conn
}

func newProxy(server string, delay time.Duration, bandwidth int) (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: listener, server: server, delay: delay, bandwidth: bandwidth}
	go p.serve()
	return p, nil
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// close ends the proxy and its connections.
func (p *proxy) close() {
	_ = p.listener.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
}

func (p *proxy) serve() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", p.server)
		if err != nil {
			_ = near.Close()
			return
		}
		p.mu.Lock()
		p.conns = append(p.conns, near, far)
		p.mu.Unlock()
		go pass(far, near, p.delay, 0)
		go pass(near, far, p.delay, p.bandwidth)
	}
}

// chunk is data on its way.
type chunk struct {
	data []byte
	due  time.Time
}

// inTransit is how many chunks may be on their way in one direction. With a limited bandwidth there
// are few, as in the buffers of a slow link.
const inTransit = 1024

// pass passes on data from one connection to another.
func pass(to, from net.Conn, delay time.Duration, bandwidth int) {
	capacity, most := inTransit, 32<<10
	if bandwidth > 0 {
		capacity, most = 1, bandwidth/10
	}
	chunks := make(chan chunk, capacity)
	go func() {
		defer close(chunks)
		for {
			buf := make([]byte, most)
			n, err := from.Read(buf)
			if err != nil {
				return
			}
			if bandwidth > 0 {
				time.Sleep(time.Duration(n) * time.Second / time.Duration(bandwidth))
			}
			chunks <- chunk{buf[:n], time.Now().Add(delay)}
		}
	}()
	for c := range chunks {
		time.Sleep(time.Until(c.due))
		if _, err := to.Write(c.data); err != nil {
			_ = from.Close()
			break
		}
	}
	for range chunks { // until the reader has ended
	}
	_ = to.Close()
}
