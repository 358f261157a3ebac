package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"sync/atomic"
)

// balancer passes connections on to the nodes that run, in turn.
type balancer struct {
	nodes []*node
	turn  atomic.Uint32
}

var errNoNode = errors.New("no node runs")

// dial connects to the next node. If that is dead, it tries the others.
func (b *balancer) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	var d net.Dialer
	err := errNoNode
	for first, i := int(b.turn.Add(1)), 0; i < len(b.nodes); i++ {
		addr := b.nodes[(first+i)%len(b.nodes)].address()
		if addr == "" {
			continue
		}
		c, failed := d.DialContext(ctx, network, addr)
		if failed == nil {
			return c, nil
		}
		err = failed
	}
	return nil, err
}

// proxy returns a handler that passes each request on over a connection of its own. Of a WebSocket
// it copies the bytes after the handshake.
func (b *balancer) proxy() http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "a node" // dial chooses it
			r.SetXForwarded()
		},
		Transport: &http.Transport{DialContext: b.dial, DisableKeepAlives: true},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusBadGateway) // clients try again
		},
	}
}

func (b *balancer) node(name string) *node {
	for _, n := range b.nodes {
		if n.options.name == name {
			return n
		}
	}
	return nil
}

// nodeState is what the page shows of a node.
type nodeState struct {
	Name  string `json:"name"`
	Alive bool   `json:"alive"`
}

func (b *balancer) states() []nodeState {
	all := make([]nodeState, len(b.nodes))
	for i, n := range b.nodes {
		all[i] = nodeState{n.options.name, n.address() != ""}
	}
	return all
}

// start starts three nodes.
func (b *balancer) start(o nodeOptions, output io.Writer) error {
	for _, name := range []string{"red", "green", "blue"} {
		n := newNode(name, o, output)
		b.nodes = append(b.nodes, n)
		if err := n.start(); err != nil {
			return err
		}
	}
	return nil
}

// stop ends all nodes.
func (b *balancer) stop() {
	for _, n := range b.nodes {
		n.stop()
	}
}
