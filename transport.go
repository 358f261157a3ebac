package realtime

import (
	"context"

	"github.com/realtime-go/realtime/internal/transport"
	"github.com/realtime-go/realtime/internal/wire"
)

// V1 is the subprotocol of clients that get replies. A client asks for it in the header
// Sec-WebSocket-Protocol or, where it cannot set that, in the query ?protocol=realtime.v1.
const V1 = wire.V1

// Transport is one way to reach a peer, given to [Manager.Register], which takes it over. [Pipe]
// makes one in memory; [Manager.ServeHTTP] registers WebSockets by itself. The zero Transport
// reaches nobody, and Register refuses it.
type Transport struct{ t transport.Transport }

// RemoteAddr returns the address of the peer for humans, "pipe" for a pipe, and an empty string
// for the zero Transport.
func (t Transport) RemoteAddr() string {
	if t.t == nil {
		return ""
	}
	return t.t.RemoteAddr()
}

// Pipe returns a connection in memory: a Transport for [Manager.Register], and the client's end.
// It behaves like a WebSocket whose client answers pings while it reads, needs no port, and works
// in a testing/synctest bubble. The client speaks realtime.v1 if [V1] is among the subprotocols
// that it offers, and else the plain protocol.
func Pipe(subprotocols ...string) (Transport, *PipeClient) {
	t, c := transport.Pipe(subprotocols...)
	return Transport{t}, &PipeClient{c}
}

// PipeClient is the client's end of a [Pipe]. One goroutine at a time may call Read; the other
// methods are safe for concurrent use.
type PipeClient struct{ c *transport.PipeClient }

// Read returns the next message, which the caller owns, and whether it is a binary one. It waits
// for one until ctx ends, and answers pings meanwhile. After the end of the connection it returns
// a *CloseError, with code CloseLost if there was no close frame.
func (c *PipeClient) Read(ctx context.Context) (p []byte, binary bool, err error) {
	return c.c.Read(ctx)
}

// Write sends a text message and keeps no reference to it. It waits while the server does not
// read. It returns os.ErrClosed after the end of the connection.
func (c *PipeClient) Write(text []byte) error { return c.c.Write(text) }

// WriteBinary is Write for a binary message.
func (c *PipeClient) WriteBinary(p []byte) error { return c.c.WriteBinary(p) }

// Close sends a close frame, as a page does that calls close. The answer of the server and the
// messages before it can still be read.
func (c *PipeClient) Close(code CloseCode, reason string) error { return c.c.Close(code, reason) }

// Drop ends the connection without a close frame, as the end of a process does.
func (c *PipeClient) Drop() { c.c.Drop() }
