package realtimetest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync"
)

var errNoNetwork = errors.New("realtimetest: the network is down")

// network is a net.Listener in memory. Its connections behave like sockets, need no port, and wait
// in ways that testing/synctest recognises.
type network struct {
	incoming chan net.Conn
	done     chan struct{}
	once     sync.Once

	mu   sync.Mutex
	last int // port of the last client's address
}

func newNetwork() *network {
	return &network{incoming: make(chan net.Conn), done: make(chan struct{})}
}

// Accept implements net.Listener.
func (n *network) Accept() (net.Conn, error) {
	select {
	case c := <-n.incoming:
		return c, nil
	case <-n.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (n *network) Close() error {
	n.once.Do(func() { close(n.done) })
	return nil
}

// Addr implements net.Listener.
func (n *network) Addr() net.Addr { return address("10.0.0.1:80") }

// dial connects to the server that accepts.
func (n *network) dial(ctx context.Context) (*conn, error) {
	n.mu.Lock()
	n.last++
	from := address("10.0.0.2:" + strconv.Itoa(n.last))
	n.mu.Unlock()
	near, far := newPair(from, n.Addr())
	select {
	case n.incoming <- far:
		return near, nil
	case <-n.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// address is an address of a private network, to which no limits apply by default.
type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

// uplink is the connection of a client to the network. It can be interrupted.
type uplink struct {
	net *network

	mu      sync.Mutex
	down    bool
	stalled bool
	conns   map[*conn]struct{}
}

func newUplink(n *network) *uplink {
	return &uplink{net: n, conns: make(map[*conn]struct{})}
}

// client returns an http.Client that makes requests over the uplink.
func (u *uplink) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: u.dial, DisableKeepAlives: true}}
}

// dial is the DialContext of an http.Transport.
func (u *uplink) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	u.mu.Lock()
	gone := u.down
	u.mu.Unlock()
	if gone {
		return nil, errNoNetwork
	}
	c, err := u.net.dial(ctx)
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.conns[c] = struct{}{}
	c.in.pause(u.stalled)
	return c, nil
}

// stall stops the client from reading, or lets it continue.
func (u *uplink) stall(yes bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stalled = yes
	for c := range u.conns {
		c.in.pause(yes)
	}
}

// drop discards all data from now on. Neither side gets an error.
func (u *uplink) drop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.down = true
	for c := range u.conns {
		c.in.discard()
		c.out.discard()
	}
}

// restore restores the network. Connections from before are reset on the client's side, as by a
// router that no longer knows them.
func (u *uplink) restore() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.down = false
	for c := range u.conns {
		c.in.reset()
	}
	clear(u.conns)
}
