package realtime

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/realtime-go/realtime/internal/engine"
)

// firstBuffer is for the first message of a connection's reader, which keeps a buffer of
// up to twice that.
const firstBuffer = 512

// sockets is what the sockets of a Manager have in common.
type sockets struct {
	intakes  *engine.Intakes
	buffers  sync.Pool // of *[]byte, for joined writes
	compress bool      // compression may be negotiated
}

// socket is a WebSocket as a transport. coder/websocket does the handshake, puts messages
// together and checks them; the intake below it reads, and the link writes. What coder
// would write, which is close frames only, is given to the link, so that nothing ever
// lands inside or behind what the link has put on the wire.
type socket struct {
	conn       *ownConn
	ws         *websocket.Conn
	remote     string
	link       *engine.Link
	ears       ears
	maxMessage int
	shared     *sockets
}

// upgrade accepts the handshake and returns the transport, whose link answers it. After an
// error it has answered the request.
func (shared *sockets) upgrade(w http.ResponseWriter, r *http.Request) (*socket, error) {
	s := &socket{remote: r.RemoteAddr, shared: shared}
	h := &hijacker{ResponseWriter: w, intakes: shared.intakes}
	mode := websocket.CompressionDisabled
	if shared.compress {
		mode = websocket.CompressionNoContextTakeover
	}
	h.Header().Del(extensions) // only coder/websocket says what is negotiated
	ws, err := websocket.Accept(h, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, // the origin has been checked, see origin.go
		CompressionMode:    mode,
		OnPingReceived:     s.onPing,
		OnPongReceived:     s.onPong,
	})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(-1) // receive and the scanner have their own
	s.conn, s.ws = h.conn, ws
	return s, nil
}

func (s *socket) RemoteAddr() string                 { return s.remote }
func (s *socket) deflates() bool                     { return s.conn.deflate }
func (s *socket) wire() engine.Wire                  { return s }
func (s *socket) SetWriteDeadline(t time.Time) error { return s.conn.Conn.SetWriteDeadline(t) }
func (s *socket) Close() error                       { return s.conn.Conn.Close() }

func (s *socket) attach(l *engine.Link, e ears, maxMessage int) {
	s.link, s.ears, s.maxMessage = l, e, maxMessage
	l.Begin(s.conn.answer)
	s.conn.answer = nil
	s.conn.in.Begin(s, engine.NewScanner(maxMessage, s.conn.deflate))
}

// RawConn is engine.RawWire.
func (s *socket) RawConn() syscall.RawConn { return s.conn.raw }

// Heard, Waiting and Wake are engine.Listener.
func (s *socket) Heard()              { s.ears.alive() }
func (s *socket) Waiting(inside bool) { s.ears.waiting(inside) }
func (s *socket) Wake()               { s.ears.wake() }

func (s *socket) nudge() bool { return s.conn.in.Nudge() }
func (s *socket) park() bool  { return s.conn.in.Park() }

func (s *socket) discard() {
	_ = s.conn.Conn.SetReadDeadline(time.Now().Add(closeGrace))
	_, _ = io.Copy(io.Discard, s.conn.Conn)
}

// release gives coder/websocket the end that it needs to free the connection.
func (s *socket) release() {
	_ = s.ws.CloseNow()
	s.conn.in.Release()
}

func (s *socket) onPing(_ context.Context, payload []byte) bool {
	if s.ears.ping() {
		s.link.Pong(engine.NewFrame(engine.OpPong, payload))
	}
	return false // the pong is ours
}

func (s *socket) onPong(_ context.Context, payload []byte) {
	s.ears.pong(string(payload))
}

func (s *socket) receive(buf []byte, wait bool) (engine.Op, []byte, error) {
	s.conn.in.MayLeave(!wait)
	typ, r, err := s.ws.Reader(context.Background())
	if err != nil {
		return 0, nil, s.ended(err)
	}
	if cap(buf) == 0 {
		buf = make([]byte, 0, firstBuffer)
	}
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case len(buf) > s.maxMessage:
			return 0, nil, tooBig(s.maxMessage)
		case err == io.EOF && !s.conn.done():
			return 0, nil, protocolError("compressed data ends before the message", nil)
		case err == io.EOF:
			return engine.Op(typ), buf, nil
		case err != nil:
			return 0, nil, s.ended(err)
		}
	}
}

// ended turns an error of coder/websocket into how the connection ended.
func (s *socket) ended(err error) error {
	if errors.Is(err, engine.ErrQuiet) {
		return engine.ErrQuiet
	}
	if wrong := s.conn.in.Wrong(); wrong != nil {
		return &CloseError{
			Cause: CauseProtocol, Code: CloseCode(wrong.Code), Reason: wrong.Reason, Err: err,
		}
	}
	if ce, ok := errors.AsType[websocket.CloseError](err); ok {
		if !utf8.ValidString(ce.Reason) {
			return &CloseError{Cause: CauseProtocol, Code: CloseText, Reason: "reason is not UTF-8"}
		}
		return &CloseError{Cause: CauseClient, Code: CloseCode(ce.Code), Reason: ce.Reason}
	}
	if said := s.conn.said.Load(); said != nil {
		return &CloseError{Cause: CauseProtocol, Code: said.Code, Reason: said.Reason, Err: err}
	}
	_, network := errors.AsType[net.Error](err)
	if network || errors.Is(err, io.EOF) || errors.Is(err, engine.ErrTorn) ||
		errors.Is(err, net.ErrClosed) {
		return &CloseError{Cause: CauseLost, Code: CloseLost, Err: err}
	}
	return protocolError("protocol error", err)
}

func protocolError(reason string, err error) *CloseError {
	return &CloseError{Cause: CauseProtocol, Code: CloseProtocol, Reason: reason, Err: err}
}

// Write is engine.Wire.
func (s *socket) Write(batch []*engine.Frame) error {
	buf := s.shared.buffers.Get().(*[]byte)
	defer s.shared.buffers.Put(buf)
	for i := 0; i < len(batch); {
		p, _, next := engine.Join(batch, i, buf)
		if _, err := s.conn.Conn.Write(p); err != nil {
			return err
		}
		i = next
	}
	return nil
}
