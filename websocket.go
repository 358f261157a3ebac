package realtime

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/realtime-go/realtime/internal/engine"
)

const (
	// The buffers that coder/websocket keeps for a connection's whole life. It writes
	// nothing through them but close frames.
	readBuffer, writeBuffer = 512, 256
	// handshakeTimeout is how long writing the answer to the handshake may take.
	handshakeTimeout = 5 * time.Second
)

// socket is a WebSocket as a transport. coder/websocket does the handshake, reading
// and its checks; the link writes. What coder would write, which is close frames
// only, is given to the link, so that nothing ever lands inside or behind what the
// link has put on the wire.
type socket struct {
	nc      net.Conn
	ws      *websocket.Conn
	remote  string
	link    *engine.Link
	ears    ears
	buffers *sync.Pool // of *[]byte, for joined writes
	sent    atomic.Pointer[CloseError]
}

// upgrade answers the handshake and returns the transport. After an error it has
// answered the request.
func upgrade(w http.ResponseWriter, r *http.Request, buffers *sync.Pool) (*socket, error) {
	s := &socket{remote: r.RemoteAddr, buffers: buffers}
	ws, err := websocket.Accept(&hijacker{ResponseWriter: w, s: s}, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, // the origin has been checked, see origin.go
		OnPingReceived:     s.onPing,
		OnPongReceived:     s.onPong,
	})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(-1) // receive has its own
	s.ws = ws
	return s, nil
}

func (s *socket) RemoteAddr() string                 { return s.remote }
func (s *socket) wire() engine.Wire                  { return s }
func (s *socket) attach(l *engine.Link, e ears)      { s.link, s.ears = l, e }
func (s *socket) SetWriteDeadline(t time.Time) error { return s.nc.SetWriteDeadline(t) }
func (s *socket) Close() error                       { return s.nc.Close() }

// RawConn is engine.RawWire. Only a connection that is a socket and nothing else may be
// written to directly: one that embeds a socket has these methods too, and its own Write
// would be passed by.
func (s *socket) RawConn() syscall.RawConn {
	var raw syscall.RawConn
	var err error
	switch nc := s.nc.(type) {
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

func (s *socket) discard() {
	_ = s.nc.SetReadDeadline(time.Now().Add(closeGrace))
	_, _ = io.Copy(io.Discard, s.nc)
}

// release gives coder/websocket the end that it needs to free the connection.
func (s *socket) release() { _ = s.ws.CloseNow() }

func (s *socket) onPing(_ context.Context, payload []byte) bool {
	s.ears.alive()
	if s.ears.ping() {
		s.link.Pong(engine.NewFrame(engine.OpPong, payload))
	}
	return false // the pong is ours
}

func (s *socket) onPong(_ context.Context, payload []byte) {
	s.ears.alive()
	s.ears.pong(string(payload))
}

func (s *socket) receive(buf []byte) (engine.Op, []byte, error) {
	typ, r, err := s.ws.Reader(context.Background())
	if err != nil {
		return 0, nil, s.ended(err)
	}
	s.ears.begin()
	if cap(buf) == 0 {
		buf = make([]byte, 0, readBuffer)
	}
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case len(buf) > s.ears.maxMessage:
			return 0, nil, tooBig(s.ears.maxMessage)
		case err == io.EOF:
			return engine.Op(typ), buf, nil
		case err != nil:
			return 0, nil, s.ended(err)
		}
	}
}

// ended turns an error of coder/websocket into how the connection ended.
func (s *socket) ended(err error) *CloseError {
	if ce, ok := errors.AsType[websocket.CloseError](err); ok {
		if !utf8.ValidString(ce.Reason) {
			return &CloseError{Cause: CauseProtocol, Code: CloseText, Reason: "reason is not UTF-8"}
		}
		return &CloseError{Cause: CauseClient, Code: CloseCode(ce.Code), Reason: ce.Reason}
	}
	if said := s.sent.Load(); said != nil {
		return &CloseError{Cause: CauseProtocol, Code: said.Code, Reason: said.Reason, Err: err}
	}
	_, network := errors.AsType[net.Error](err)
	if network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) {
		return &CloseError{Cause: CauseLost, Code: CloseLost, Err: err}
	}
	return &CloseError{
		Cause: CauseProtocol, Code: CloseProtocol, Reason: "protocol error", Err: err,
	}
}

// Write is engine.Wire.
func (s *socket) Write(batch []*engine.Frame) error {
	buf := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buf)
	for i := 0; i < len(batch); {
		p, _, next := engine.Join(batch, i, buf)
		if _, err := s.nc.Write(p); err != nil {
			return err
		}
		i = next
	}
	return nil
}

// hijacker hands coder/websocket a net.Conn of ours in place of the server's, with
// buffers of our size. It answers the handshake on the connection itself: middleware
// that compresses or collects would keep the status 101 until the handler returns.
type hijacker struct {
	http.ResponseWriter
	s *socket
}

// WriteHeader passes on refusals.
func (h *hijacker) WriteHeader(status int) {
	if status != http.StatusSwitchingProtocols && h.s.nc == nil {
		h.ResponseWriter.WriteHeader(status)
	}
}

// Write passes on the text of refusals.
func (h *hijacker) Write(p []byte) (int, error) {
	if h.s.nc != nil {
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
	h.s.nc = nc
	// Frames that came in one packet with the handshake are in the server's reader.
	early, err := brw.Reader.Peek(brw.Reader.Buffered())
	if err == nil {
		err = h.answer(nc)
	}
	if err != nil {
		return nil, nil, errors.Join(err, nc.Close())
	}
	own := &ownConn{Conn: nc, s: h.s, early: bytes.NewReader(bytes.Clone(early))}
	return own, bufio.NewReadWriter(
		bufio.NewReaderSize(own, readBuffer), bufio.NewWriterSize(own, writeBuffer)), nil
}

// answer writes the answer to the handshake, with the headers that coder/websocket and
// the middleware have set, and takes away the deadlines of the server.
func (h *hijacker) answer(nc net.Conn) error {
	answer := bytes.NewBufferString("HTTP/1.1 101 Switching Protocols\r\n")
	_ = h.Header().Write(answer) // a buffer takes everything
	answer.WriteString("\r\n")
	_ = nc.SetDeadline(time.Now().Add(handshakeTimeout))
	if _, err := nc.Write(answer.Bytes()); err != nil {
		return err
	}
	return nc.SetDeadline(time.Time{})
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

// ownConn is the net.Conn that coder/websocket sees.
type ownConn struct {
	net.Conn
	s     *socket
	early *bytes.Reader
}

// Read returns first what came with the handshake.
func (c *ownConn) Read(p []byte) (int, error) {
	if c.early != nil {
		if c.early.Len() > 0 {
			return c.early.Read(p)
		}
		c.early = nil
	}
	return c.Conn.Read(p)
}

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
	c.s.sent.Store(said)
	return len(p), nil
}

// Close ends reading. The link hangs up when it has said what it has to say.
func (c *ownConn) Close() error { return c.Conn.SetReadDeadline(time.Unix(1, 0)) }
