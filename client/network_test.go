package client_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
)

// memoryNetwork is a network in memory with one server. It is the listener of that server.
type memoryNetwork struct {
	waiting chan net.Conn
	closed  chan struct{}
	once    sync.Once

	mu    sync.Mutex
	wrap  func(net.Conn) net.Conn // applied to the client's ends; may be nil
	down  bool
	conns []net.Conn // the client's ends
	dials int
}

func newMemoryNetwork() *memoryNetwork {
	return &memoryNetwork{waiting: make(chan net.Conn), closed: make(chan struct{})}
}

var errDown = errors.New("network is down")

// client returns an http.Client that can reach only the server.
func (m *memoryNetwork) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: m.dial}}
}

func (m *memoryNetwork) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	m.mu.Lock()
	if m.wrap != nil {
		near = m.wrap(near)
	}
	m.dials++
	down := m.down
	if !down {
		m.conns = append(m.conns, near)
	}
	m.mu.Unlock()
	if down {
		return nil, errDown
	}
	select {
	case m.waiting <- far:
		return near, nil
	case <-m.closed:
		return nil, errDown
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (m *memoryNetwork) Accept() (net.Conn, error) {
	select {
	case conn := <-m.waiting:
		return conn, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. Later dials fail.
func (m *memoryNetwork) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

// Addr implements net.Listener.
func (m *memoryNetwork) Addr() net.Addr { return memoryAddr{} }

type memoryAddr struct{}

func (memoryAddr) Network() string { return "memory" }
func (memoryAddr) String() string  { return "memory" }

// cutAll closes all connections without a closing handshake.
func (m *memoryNetwork) cutAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, line := range m.conns {
		_ = line.Close()
	}
	m.conns = nil
}

// setDown determines whether dials fail.
func (m *memoryNetwork) setDown(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}

// wrapConns sets the function that is applied to new connections.
func (m *memoryNetwork) wrapConns(wrap func(net.Conn) net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wrap = wrap
}

// dialCount returns the number of dials.
func (m *memoryNetwork) dialCount() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dials
}
