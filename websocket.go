package realtime

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

	"github.com/realtime-go/realtime/internal/inbound"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/wire"
)

// firstBuffer is for the first message of a connection's reader, which keeps a buffer of
// up to twice that.
const firstBuffer = 512

// tlsRecord is how many bytes a record of TLS has at most, RFC 8446 section 5.1.
const tlsRecord = 16 << 10

// ownWrite is how much a goroutine writes at once that may have to wait with it. Over TLS that is a
// record, of which neither side sees anything before all of it has gone: so a peer of 1 KiB/s must
// take it within the time that either waits, which is 10 s.
const ownWrite = 8 << 10

// fullTime is from how much time on a write must have waited for its peer. A write to a socket with
// room in it takes microseconds, and more on a busy machine.
const fullTime = 100 * time.Millisecond

// sockets is what the sockets of a Manager have in common.
type sockets struct {
	intakes  *inbound.Intakes
	decoders decoders
	buffers  sync.Pool // of *[]byte, for joined writes
	compress bool      // compression may be negotiated
}

// close frees what is left. Nobody reads any more.
func (shared *sockets) close() {
	shared.intakes.Close()
	shared.decoders.close()
}

// socket is a WebSocket as a transport. The intake reads, a decoder makes messages of that,
// and the link writes: also the answer to the handshake, in one with the first message, as
// a write of its own would cost as much as the rest. What the decoder would write, which is
// close frames only, is given to the link, so that nothing ever lands inside or behind what
// the link has put on the wire.
type socket struct {
	shared     *sockets
	nc         net.Conn
	raw        syscall.RawConn // nil if nc is more than a socket
	in         *inbound.Intake
	decoder    *decoder // nil while nothing is read
	proto      wire.Protocol
	deflate    bool // compression was negotiated, and the decoder is never given back
	remote     string
	answer     []byte // to the handshake, until the link has it
	link       *sendqueue.Queue
	ears       ears
	maxMessage int
}

// upgrade accepts a handshake of remote that has been checked, and returns the transport.
// After an error it has answered the request.
func (shared *sockets) upgrade(w http.ResponseWriter, r *http.Request, remote string) (*socket, error) {
	nc, early, err := hijack(w)
	if err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return nil, err
	}
	s := &socket{shared: shared, nc: nc, raw: rawConn(nc), remote: remote}
	s.in = inbound.NewIntake(shared.intakes, nc, s.raw, early)
	if secure, ok := nc.(*tls.Conn); ok { // no flusher does that for it
		if below := rawConn(secure.NetConn()); below != nil {
			sendqueue.KeepLittle(below)
		}
	}
	agreed := ""
	if offered := r.Header[extensions]; shared.compress && len(offered) > 0 {
		agreed = s.negotiate(offered)
	}
	subprotocol := ""
	if byHeader, ok := asksForV1(r); ok {
		s.proto = wire.ProtoV1
		if byHeader {
			subprotocol = V1
		}
	}
	s.answer = accepted(w.Header(), r.Header.Get(headerKey), agreed, subprotocol)
	return s, nil
}

// negotiate asks coder/websocket which of the extensions it would agree to. A decoder that
// inflates is never lent to another connection: what a client puts behind the end of its
// compressed data stays inside.
func (s *socket) negotiate(offered []string) (agreed string) {
	d, agreed := newDecoder(offered)
	if agreed == "" {
		_ = d.ws.CloseNow()
		return ""
	}
	d.in, d.ctrl = s.in, s
	s.decoder, s.deflate = d, true
	return agreed
}

func (s *socket) RemoteAddr() string                 { return s.remote }
func (s *socket) protocol() wire.Protocol            { return s.proto }
func (s *socket) deflates() bool                     { return s.deflate }
func (s *socket) wire() sendqueue.Wire               { return s }
func (s *socket) SetWriteDeadline(t time.Time) error { return s.nc.SetWriteDeadline(t) }
func (s *socket) Close() error                       { return s.nc.Close() }

// CloseWrite is sendqueue.Wire. A connection that cannot be closed by halves is closed.
func (s *socket) CloseWrite() error {
	if half, ok := s.nc.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return s.nc.Close()
}

func (s *socket) attach(l *sendqueue.Queue, e ears, maxMessage int) {
	s.link, s.ears, s.maxMessage = l, e, maxMessage
	l.Prepend(s.answer)
	s.answer = nil
	s.in.Begin(s, inbound.NewScanner(maxMessage, s.deflate))
}

// RawConn is sendqueue.RawWire.
func (s *socket) RawConn() syscall.RawConn { return s.raw }

// Heard, Waiting and Wake are inbound.Listener.
func (s *socket) Heard(n int)         { s.ears.alive(n) }
func (s *socket) Waiting(inside bool) { s.ears.waiting(inside) }
func (s *socket) Wake()               { s.ears.wake() }

func (s *socket) nudge() bool { return s.in.Nudge() }
func (s *socket) ahead() bool { return s.in.Ahead() }
func (s *socket) park() bool  { return s.in.Park() }

// unseen is a record where there may be TLS, which shows nothing of one before all of it has come.
func (s *socket) unseen() int {
	if s.raw != nil {
		return 0
	}
	return tlsRecord
}

func (s *socket) discard() {
	_ = s.nc.SetReadDeadline(time.Now().Add(closeGrace))
	if n, _ := io.CopyN(io.Discard, s.nc, maxAfterlife); n == maxAfterlife {
		<-s.link.Done()
	}
}

// release frees the decoder of a connection that has ended: its state is not to be trusted.
func (s *socket) release() {
	if s.decoder != nil {
		_ = s.decoder.ws.CloseNow()
	}
	s.in.Release()
}

func (s *socket) onPing(payload []byte) {
	if s.ears.ping() {
		s.link.Pong(sendqueue.NewFrame(sendqueue.OpPong, payload))
	}
}

func (s *socket) onPong(payload []byte) { s.ears.pong(string(payload)) }

// begin waits for a message to begin.
func (s *socket) begin(wait bool) (websocket.MessageType, io.Reader, error) {
	s.in.MayLeave(!wait)
	for {
		if s.decoder == nil {
			switch err := s.in.Await(); {
			case errors.Is(err, inbound.ErrQuiet):
				return 0, nil, err
			case err != nil: // none is used up for a connection that is just gone
				return 0, nil, s.ended(err)
			}
			s.decoder = s.shared.decoders.lend(s.in, s)
		}
		s.decoder.took = false
		typ, r, err := s.decoder.ws.Reader(context.Background())
		switch {
		case err == nil:
			return typ, r, nil
		case errors.Is(err, inbound.ErrQuiet):
			if !s.deflate {
				s.shared.decoders.giveBack(s.decoder)
				s.decoder = nil
			}
			return 0, nil, inbound.ErrQuiet
		case s.deflate || !s.decoder.worn(err):
			return 0, nil, s.ended(err)
		}
		s.decoder = nil // it is closed already
	}
}

func (s *socket) receive(buf []byte, wait bool) (sendqueue.Op, []byte, error) {
	defer s.ears.holds(0)
	typ, r, err := s.begin(wait)
	if err != nil {
		return 0, nil, err
	}
	if cap(buf) == 0 {
		buf = make([]byte, 0, firstBuffer)
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

// inflating is about what it takes to inflate a message, beside the message.
const inflating = 48 << 10

// holds tells how much memory a message takes that is being read.
func (s *socket) holds(buf []byte) {
	bytes := 0
	if cap(buf) > 2*firstBuffer {
		bytes = cap(buf)
	}
	if s.deflate {
		bytes += inflating
	}
	s.ears.holds(bytes)
}

// ended turns an error of coder/websocket into how the connection ended.
func (s *socket) ended(err error) *CloseError {
	if wrong := s.in.Wrong(); wrong != nil {
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
	if s.decoder != nil && s.decoder.said != nil {
		said := s.decoder.said
		return &CloseError{Cause: CauseProtocol, Code: said.Code, Reason: "invalid frame", Err: err}
	}
	_, network := errors.AsType[net.Error](err)
	if network || errors.Is(err, io.EOF) || errors.Is(err, inbound.ErrTorn) ||
		errors.Is(err, net.ErrClosed) {
		return &CloseError{Cause: CauseLost, Code: CloseLost, Err: err}
	}
	return protocolError("protocol error", err)
}

func protocolError(reason string, err error) *CloseError {
	return &CloseError{Cause: CauseProtocol, Code: CloseProtocol, Reason: reason, Err: err}
}

// Write is sendqueue.Wire.
func (s *socket) Write(batch []*sendqueue.Frame, m sendqueue.Meter) error {
	buf := s.shared.buffers.Get().(*[]byte)
	defer s.shared.buffers.Put(buf)
	for i := 0; i < len(batch); {
		p, next := sendqueue.Join(batch, i, ownWrite, buf)
		if err := s.pass(p, m); err != nil {
			return err
		}
		i = next
	}
	return nil
}

// pass writes p in portions, each with a deadline of its own. One of which some was taken is no
// reason to end.
func (s *socket) pass(p []byte, m sendqueue.Meter) error {
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
