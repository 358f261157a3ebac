package realtime

import (
	"context"
	"sync/atomic"

	"github.com/realtime-go/realtime/internal/transport"
	"github.com/realtime-go/realtime/internal/wire"
)

// V1 is the name of the subprotocol realtime.v1, in which clients get replies. A client asks for it
// in the header Sec-WebSocket-Protocol or, where it cannot set that header, with the query
// ?protocol=realtime.v1.
const V1 = wire.V1

// Transport is one way to reach a peer. [Manager.Register] takes it over. [Pipe] makes one in
// memory; [Manager.ServeHTTP] registers WebSockets by itself. Register refuses the zero Transport.
type Transport struct {
	t     transport.Transport
	taken *atomic.Bool // Register has it
}

// RemoteAddr returns the address of the peer for humans: "pipe" for a pipe, and an empty string for
// the zero Transport.
func (t Transport) RemoteAddr() string {
	if t.t == nil {
		return ""
	}
	return t.t.RemoteAddr()
}

// Pipe returns the two ends of a connection in memory: a Transport for [Manager.Register], and the
// client's end. It behaves like a WebSocket whose client answers pings while it reads. It needs no
// port and works in a testing/synctest bubble. The client speaks realtime.v1 if [V1] is among the
// subprotocols, and otherwise the plain protocol.
func Pipe(subprotocols ...string) (Transport, *PipeClient) {
	t, c := transport.Pipe(subprotocols...)
	return Transport{t, new(atomic.Bool)}, &PipeClient{c}
}

// PipeClient is the client's end of a [Pipe]. One goroutine at a time may call Read; the other
// methods are safe for concurrent use.
type PipeClient struct{ c *transport.PipeClient }

// Read returns the next message, and whether it is a binary one. The caller owns p. Read waits for
// a message until ctx ends, and answers pings in the meantime. It returns the error of ctx if ctx
// ended, and a *CloseError after the end of the connection, with code CloseLost if there was no
// close frame.
func (c *PipeClient) Read(ctx context.Context) (p []byte, binary bool, err error) {
	return c.c.Read(ctx)
}

// Write sends a text message. It keeps no reference to text after it has returned. It waits while
// the server does not read. It returns os.ErrClosed after the end of the connection.
func (c *PipeClient) Write(text []byte) error { return c.c.Write(text) }

// WriteBinary is like Write, for a binary message.
func (c *PipeClient) WriteBinary(p []byte) error { return c.c.WriteBinary(p) }

// Close sends a close frame, like close in a browser. The answer of the server and the messages
// before it can still be read. Close waits and fails like Write.
func (c *PipeClient) Close(code CloseCode, reason string) error { return c.c.Close(code, reason) }

// Drop ends the connection without a close frame, as if the client had crashed.
func (c *PipeClient) Drop() { c.c.Drop() }
