package realtime

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/realtime-go/realtime/internal/engine"
)

const (
	// The buffers that coder/websocket keeps for a connection's whole life: just enough
	// for the headers of frames, as the intake has a larger one while there is something
	// to read, and for a close frame, which is all that it writes.
	readBuffer, writeBuffer = 32, 128

	extensions = "Sec-Websocket-Extensions" // as net/http keeps it
)

// hijacker hands coder/websocket a net.Conn of ours in place of the server's, with
// buffers of our size. It keeps the answer to the handshake for the link to write, in one
// with the first message: middleware that compresses or collects would keep the status 101
// until the handler returns, and a write of its own would cost as much as the rest.
type hijacker struct {
	http.ResponseWriter
	intakes *engine.Intakes
	conn    *ownConn // what was handed over
}

// WriteHeader passes on refusals.
func (h *hijacker) WriteHeader(status int) {
	if status != http.StatusSwitchingProtocols && h.conn == nil {
		h.ResponseWriter.WriteHeader(status)
	}
}

// Write passes on the text of refusals.
func (h *hijacker) Write(p []byte) (int, error) {
	if h.conn != nil {
		return len(p), nil
	}
	return h.ResponseWriter.Write(p)
}

// Hijack is http.Hijacker.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc, brw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	deflate := h.Header().Get(extensions) != "" // there is but one extension
	h.conn = &ownConn{Conn: nc, raw: rawConn(nc), deflate: deflate, answer: h.answer()}
	// Frames that came in one packet with the handshake are in the server's reader.
	early, err := brw.Reader.Peek(brw.Reader.Buffered())
	if err == nil {
		err = nc.SetDeadline(time.Time{}) // the server's is not ours
	}
	if err != nil {
		return nil, nil, errors.Join(err, nc.Close())
	}
	h.conn.in = engine.NewIntake(h.intakes, nc, h.conn.raw, bytes.Clone(early))
	h.conn.br = bufio.NewReaderSize(h.conn, readBuffer)
	return h.conn, bufio.NewReadWriter(h.conn.br, bufio.NewWriterSize(h.conn, writeBuffer)), nil
}

// answer returns the answer to the handshake, with the headers that coder/websocket and the
// middleware have set.
func (h *hijacker) answer() []byte {
	answer := bytes.NewBufferString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = h.Header().Write(answer) // a buffer takes everything
	answer.WriteString("\r\n")
	return answer.Bytes()
}

// canHijack reports whether the connection can be taken over.
func canHijack(w http.ResponseWriter) bool {
	for {
		if _, ok := w.(http.Hijacker); ok {
			return true
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
		}
		w = u.Unwrap()
	}
}

// rawConn returns the socket below a connection that is a socket and nothing else. One
// that embeds a socket has these methods too, but its own Read and Write would be passed
// by.
func rawConn(nc net.Conn) syscall.RawConn {
	var raw syscall.RawConn
	var err error
	switch nc := nc.(type) {
	case *net.TCPConn:
		raw, err = nc.SyscallConn()
	case *net.UnixConn:
		raw, err = nc.SyscallConn()
	}
	if err != nil {
		return nil
	}
	return raw
}

// ownConn is the net.Conn that coder/websocket sees.
type ownConn struct {
	net.Conn
	raw     syscall.RawConn // nil if Conn is more than a socket
	answer  []byte          // to the handshake, until the link has it
	in      *engine.Intake
	br      *bufio.Reader              // what coder/websocket reads through
	deflate bool                       // compression was negotiated
	said    atomic.Pointer[CloseError] // in a close frame that coder/websocket has written
}

// done reports whether coder/websocket has read all of the message that it says it has. It
// leaves out what comes behind the final block of compressed data, and would then take that
// for frames.
func (c *ownConn) done() bool { return c.br.Buffered() == 0 && c.in.Done() }

// Read reads what the intake lets through.
func (c *ownConn) Read(p []byte) (int, error) { return c.in.Read(p) }

// Write keeps what a close frame says: the end of the connection sends it. coder/websocket
// writes nothing else: pongs are ours and data goes through the link.
func (c *ownConn) Write(p []byte) (int, error) {
	if len(p) < 2 || engine.Op(p[0]&0x0F) != engine.OpClose {
		return len(p), nil
	}
	said := &CloseError{Code: CloseNone}
	if len(p) >= 4 {
		said.Code, said.Reason = CloseCode(binary.BigEndian.Uint16(p[2:])), string(p[4:])
	}
	c.said.Store(said)
	return len(p), nil
}

// Close ends reading. The link hangs up when it has said what it has to say.
func (c *ownConn) Close() error { return c.in.Close() }
