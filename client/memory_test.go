package client_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
)

// memory is a network of one server: its listener, and the way there.
type memory struct {
	waiting chan net.Conn
	closed  chan struct{}
	once    sync.Once

	mu    sync.Mutex
	wrap  func(net.Conn) net.Conn // of the client's ends; nil changes nothing
	down  bool
	lines []net.Conn // the client's ends
	dials int
}

func newMemory() *memory {
	return &memory{waiting: make(chan net.Conn), closed: make(chan struct{})}
}

var errDown = errors.New("network is down")

// client returns an http.Client that reaches nothing but the server.
func (m *memory) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: m.dial}}
}

func (m *memory) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	m.mu.Lock()
	if m.wrap != nil {
		near = m.wrap(near)
	}
	m.dials++
	down := m.down
	if !down {
		m.lines = append(m.lines, near)
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

// Accept is net.Listener.
func (m *memory) Accept() (net.Conn, error) {
	select {
	case conn := <-m.waiting:
		return conn, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

// Close is net.Listener. Nobody dials any more.
func (m *memory) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

// Addr is net.Listener.
func (m *memory) Addr() net.Addr { return memoryAddr{} }

type memoryAddr struct{}

func (memoryAddr) Network() string { return "memory" }
func (memoryAddr) String() string  { return "memory" }

// cut ends all connections without a word.
func (m *memory) cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, line := range m.lines {
		_ = line.Close()
	}
	m.lines = nil
}

// setDown says whether dialling fails.
func (m *memory) setDown(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}

// setWrap says what becomes of connections from now on.
func (m *memory) setWrap(wrap func(net.Conn) net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wrap = wrap
}

// dialled returns how often.
func (m *memory) dialled() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dials
}
