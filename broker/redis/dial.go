package redis

import (
	"context"
	"crypto/tls"
	"net"
)

// dial connects to a server. All connections end with the broker, whatever waits for them.
func (b *Broker) dial(
	ctx context.Context, addr string, d *net.Dialer, secure *tls.Config,
) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(b.ctx, cancel)()
	var c net.Conn
	var err error
	if secure != nil {
		c, err = (&tls.Dialer{NetDialer: d, Config: secure}).DialContext(ctx, "tcp", addr)
	} else {
		c, err = d.DialContext(ctx, "tcp", addr)
	}
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, stop: context.AfterFunc(b.ctx, func() { _ = c.Close() })}, nil
}

// conn is a connection that ends with the broker.
type conn struct {
	net.Conn
	stop func() bool
}

func (c *conn) Close() error {
	c.stop()
	return c.Conn.Close()
}
