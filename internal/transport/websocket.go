package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/realtime-go/realtime/internal/disconnect"
	"github.com/realtime-go/realtime/internal/inbound"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/wire"
)

// FirstBuffer is the capacity of the buffer for the first message of a connection.
const FirstBuffer = 512

// tlsRecord is the largest size of a TLS record in bytes, see RFC 8446 section 5.1.
const tlsRecord = 16 << 10

// ownWrite is the most that is written at once by a goroutine that may have to wait. Over TLS it is
// one record, and neither side sees any of a record before all of it has arrived. So a peer of 1
// KiB/s must take it within the 10 s that each side waits.
const ownWrite = 8 << 10

// fullTime is how long a write takes at least if it had to wait for the peer. A write to a socket
// with free space takes microseconds, and longer on a busy machine.
const fullTime = 100 * time.Millisecond

// Upgrader makes WebSockets of HTTP requests. It owns what they share.
type Upgrader struct {
	intakes  *inbound.Intakes
	decoders decoders
	buffers  sync.Pool // of *[]byte, for joined writes
	compress bool      // compression may be negotiated
}

// Close stops the goroutines of the Upgrader. All its WebSockets must have ended.
func (u *Upgrader) Close() {
	u.intakes.Close()
	u.decoders.close()
}

// WebSocket is a Transport over a WebSocket. The intake reads the connection, a decoder assembles
// messages, and the queue writes: also the answer to the handshake, together with the first
// message, because a write of its own would cost as much as the rest. The only frames that the
// decoder would write are close frames. The queue writes these too, so that no frame lands inside
// another one.
type WebSocket struct {
	shared     *Upgrader
	nc         net.Conn
	raw        syscall.RawConn // nil unless nc is a plain socket
	in         *inbound.Intake
	decoder    *decoder // nil between messages
	proto      wire.Protocol
	deflate    bool // compression was negotiated; then the decoder is never returned
	remote     string
	answer     []byte // to the handshake, until the queue has it
	queue      *sendqueue.Queue
	events     Events
	maxMessage int
}

// NewUpgrader returns an Upgrader that runs its goroutines with spawn. With compress it agrees to
// compression.
func NewUpgrader(spawn func(func()), compress bool) *Upgrader {
	u := &Upgrader{intakes: inbound.NewIntakes(spawn), compress: compress}
	u.buffers.New = func() any { return new([]byte) }
	return u
}

// Upgrade answers a handshake that CheckHandshake has accepted, and returns the transport of a
// client at a remote address. After an error it has answered the request.
func (u *Upgrader) Upgrade(w http.ResponseWriter, r *http.Request, remote string) (*WebSocket, error) {
	nc, early, err := hijack(w)
	if err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return nil, err
	}
	s := &WebSocket{shared: u, nc: nc, raw: rawConn(nc), remote: remote}
	s.in = inbound.NewIntake(u.intakes, nc, s.raw, early)
	if secure, ok := nc.(*tls.Conn); ok { // no flusher does that for it
		if below := rawConn(secure.NetConn()); below != nil {
			sendqueue.KeepLittle(below)
		}
	}
	agreed := ""
	if offered := r.Header[extensions]; u.compress && len(offered) > 0 {
		agreed = s.negotiate(offered)
	}
	subprotocol := ""
	if byHeader, ok := asksForV1(r); ok {
		s.proto = wire.ProtoV1
		if byHeader {
			subprotocol = wire.V1
		}
	}
	s.answer = accepted(w.Header(), r.Header.Get(headerKey), agreed, subprotocol)
	return s, nil
}

// negotiate asks coder/websocket for the extensions that it agrees to. A decoder that inflates is
// never lent to another connection, because input after the end of the compressed data stays in it.
func (s *WebSocket) negotiate(offered []string) (agreed string) {
	d, agreed := newDecoder(offered)
	if agreed == "" {
		_ = d.ws.CloseNow()
		return ""
	}
	d.in, d.user = s.in, s
	s.decoder, s.deflate = d, true
	return agreed
}

func (s *WebSocket) RemoteAddr() string                 { return s.remote }
func (s *WebSocket) Protocol() wire.Protocol            { return s.proto }
func (s *WebSocket) Deflates() bool                     { return s.deflate }
func (s *WebSocket) Wire() sendqueue.Wire               { return s }
func (s *WebSocket) SetWriteDeadline(t time.Time) error { return s.nc.SetWriteDeadline(t) }
func (s *WebSocket) Close() error                       { return s.nc.Close() }

// CloseWrite implements sendqueue.Wire. If the connection has no CloseWrite, it is closed.
func (s *WebSocket) CloseWrite() error {
	if half, ok := s.nc.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return s.nc.Close()
}

func (s *WebSocket) Attach(q *sendqueue.Queue, e Events, maxMessage int) {
	s.queue, s.events, s.maxMessage = q, e, maxMessage
	q.Prepend(s.answer)
	s.answer = nil
	s.in.Begin(s, inbound.NewScanner(maxMessage, s.deflate))
}

// RawConn implements sendqueue.RawWire.
func (s *WebSocket) RawConn() syscall.RawConn { return s.raw }

// Heard, Waiting and Wake implement inbound.Listener.
func (s *WebSocket) Heard(n int)         { s.events.Alive(n) }
func (s *WebSocket) Waiting(inside bool) { s.events.Waiting(inside) }
func (s *WebSocket) Wake()               { s.events.Wake() }

func (s *WebSocket) Interrupt() bool { return s.in.Nudge() }
func (s *WebSocket) Ahead() bool     { return s.in.Ahead() }
func (s *WebSocket) Park() bool      { return s.in.Park() }

// Unseen returns the size of a record where the connection may use TLS, which shows none of a
// record before all of it has arrived.
func (s *WebSocket) Unseen() int {
	if s.raw != nil {
		return 0
	}
	return tlsRecord
}

func (s *WebSocket) Discard() {
	_ = s.nc.SetReadDeadline(time.Now().Add(CloseGrace))
	if n, _ := io.CopyN(io.Discard, s.nc, MaxAfterEnd); n == MaxAfterEnd {
		<-s.queue.Done()
	}
}

// Release frees the decoder. It is not lent again, because the end may have left it in any state.
func (s *WebSocket) Release() {
	if s.decoder != nil {
		_ = s.decoder.ws.CloseNow()
	}
	s.in.Release()
}

func (s *WebSocket) onPing(payload []byte) {
	if s.events.Ping() {
		s.queue.Pong(sendqueue.NewFrame(sendqueue.OpPong, payload))
	}
}

func (s *WebSocket) onPong(payload []byte) { s.events.Pong(string(payload)) }

// begin waits for the beginning of a message.
func (s *WebSocket) begin(wait bool) (websocket.MessageType, io.Reader, error) {
	s.in.MayLeave(!wait)
	for {
		if s.decoder == nil {
			switch err := s.in.Await(); {
			case errors.Is(err, inbound.ErrQuiet):
				return 0, nil, err
			case err != nil: // no decoder is used up for a connection that has ended
				return 0, nil, s.ended(err)
			}
			s.decoder = s.shared.decoders.borrow(s.in, s)
		}
		s.decoder.took = false
		typ, r, err := s.decoder.ws.Reader(context.Background())
		switch {
		case err == nil:
			return typ, r, nil
		case errors.Is(err, inbound.ErrQuiet):
			if !s.deflate {
				s.shared.decoders.put(s.decoder)
				s.decoder = nil
			}
			return 0, nil, inbound.ErrQuiet
		case s.deflate || !s.decoder.staleTimer(err):
			return 0, nil, s.ended(err)
		}
		s.decoder = nil // it is closed already
	}
}

func (s *WebSocket) Next(buf []byte, wait bool) (sendqueue.Op, []byte, error) {
	defer s.events.Holds(0)
	typ, r, err := s.begin(wait)
	if err != nil {
		return 0, nil, err
	}
	if cap(buf) == 0 {
		buf = make([]byte, 0, FirstBuffer)
	}
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		s.holds(buf)
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case len(buf) > s.maxMessage:
			return 0, nil, tooBig()
		case err == io.EOF && !s.decoder.done():
			return 0, nil, protocolError("compressed data ends before the message", nil)
		case err == io.EOF:
			return sendqueue.Op(typ), buf, nil
		case err != nil:
			return 0, nil, s.ended(err)
		}
	}
}

// inflating is about the memory that it takes to inflate a message, without the message itself.
const inflating = 48 << 10

// holds reports how much memory the message in buf takes that is being read.
func (s *WebSocket) holds(buf []byte) {
	bytes := 0
	if cap(buf) > 2*FirstBuffer {
		bytes = cap(buf)
	}
	if s.deflate {
		bytes += inflating
	}
	s.events.Holds(bytes)
}

// ended turns an error of coder/websocket into the error of the connection.
func (s *WebSocket) ended(err error) *disconnect.CloseError {
	if wrong := s.in.Wrong(); wrong != nil {
		return &disconnect.CloseError{
			Cause: disconnect.CauseProtocol, Code: disconnect.CloseCode(wrong.Code), Reason: wrong.Reason, Err: err,
		}
	}
	if ce, ok := errors.AsType[websocket.CloseError](err); ok {
		if !utf8.ValidString(ce.Reason) {
			return &disconnect.CloseError{Cause: disconnect.CauseProtocol, Code: disconnect.CloseText, Reason: "reason is not UTF-8"}
		}
		return &disconnect.CloseError{Cause: disconnect.CauseClient, Code: disconnect.CloseCode(ce.Code), Reason: ce.Reason}
	}
	if s.decoder != nil && s.decoder.said != nil {
		said := s.decoder.said
		return &disconnect.CloseError{Cause: disconnect.CauseProtocol, Code: said.Code, Reason: "invalid frame", Err: err}
	}
	_, network := errors.AsType[net.Error](err)
	if network || errors.Is(err, io.EOF) || errors.Is(err, inbound.ErrTorn) ||
		errors.Is(err, net.ErrClosed) {
		return &disconnect.CloseError{Cause: disconnect.CauseLost, Code: disconnect.CloseLost, Err: err}
	}
	return protocolError("protocol error", err)
}

func protocolError(reason string, err error) *disconnect.CloseError {
	return &disconnect.CloseError{Cause: disconnect.CauseProtocol, Code: disconnect.CloseProtocol, Reason: reason, Err: err}
}

// Write implements sendqueue.Wire.
func (s *WebSocket) Write(batch []*sendqueue.Frame, m sendqueue.Meter) error {
	buf := s.shared.buffers.Get().(*[]byte)
	defer s.shared.buffers.Put(buf)
	for i := 0; i < len(batch); {
		p, next := sendqueue.Join(batch, i, ownWrite, buf)
		if err := s.write(p, m); err != nil {
			return err
		}
		i = next
	}
	return nil
}

// write writes p in portions, each with a deadline of its own. A portion that was written partly
// before its deadline is no reason to end.
func (s *WebSocket) write(p []byte, m sendqueue.Meter) error {
	for len(p) > 0 {
		began := time.Now()
		n, err := s.nc.Write(p[:min(len(p), ownWrite)])
		if n > 0 {
			m.Took(n, time.Since(began) >= fullTime)
		}
		if err != nil && (n == 0 || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return err
		}
		p = p[n:]
	}
	return nil
}
