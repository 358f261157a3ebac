package transport

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/realtime-go/realtime/internal/inbound"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/wire"
)

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
	buffers  sync.Pool // of *[]byte, for joined writes
	compress bool      // compression may be negotiated
}

// NewUpgrader returns an Upgrader that runs its goroutines with spawn. With compress it agrees to
// compression.
func NewUpgrader(spawn func(func()), compress bool) *Upgrader {
	u := &Upgrader{intakes: inbound.NewIntakes(spawn), compress: compress}
	u.buffers.New = func() any { return new([]byte) }
	return u
}

// Close stops the goroutines of the Upgrader. All its WebSockets must have ended.
func (u *Upgrader) Close() { u.intakes.Close() }

// Upgrade answers a handshake that CheckHandshake has accepted, and returns the transport of a
// client at a remote address. After an error the request is answered or its connection is closed.
//
// A plain socket without compression is read directly. All other connections are read by
// coder/websocket.
func (u *Upgrader) Upgrade(w http.ResponseWriter, r *http.Request, remote string) (Transport, error) {
	nc, early, err := hijack(w)
	if err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return nil, err
	}
	s := webSocket{shared: u, nc: nc, raw: rawConn(nc), remote: remote}
	if secure, ok := nc.(*tls.Conn); ok { // no flusher does that for it
		if below := rawConn(secure.NetConn()); below != nil {
			sendqueue.KeepLittle(below)
		}
	}
	byHeader, v1 := asksForV1(r)
	if v1 {
		s.proto = wire.ProtoV1
	}
	deflates := u.compress && len(r.Header[extensions]) > 0
	if s.raw == nil || deflates || !u.intakes.Available() {
		return newLibrary(s, w.Header(), r, early, byHeader)
	}
	return newDirect(s, w.Header(), r, early, byHeader), nil
}

// webSocket is everything of a WebSocket but reading messages. The queue writes all frames: also
// the answer to the handshake, together with the first message, because a write of its own would
// cost as much as the rest.
type webSocket struct {
	shared *Upgrader
	nc     net.Conn
	raw    syscall.RawConn // nil unless nc is a plain socket
	proto  wire.Protocol
	remote string
	answer []byte // to the handshake, until the queue has it
	queue  *sendqueue.Queue
	events Events
}

func (s *webSocket) RemoteAddr() string                 { return s.remote }
func (s *webSocket) Protocol() wire.Protocol            { return s.proto }
func (s *webSocket) Wire() sendqueue.Wire               { return s }
func (s *webSocket) SetWriteDeadline(t time.Time) error { return s.nc.SetWriteDeadline(t) }
func (s *webSocket) Close() error                       { return s.nc.Close() }

// CloseWrite implements sendqueue.Wire. If the connection has no CloseWrite, it is closed.
func (s *webSocket) CloseWrite() error {
	if half, ok := s.nc.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return s.nc.Close()
}

// RawConn implements sendqueue.RawWire.
func (s *webSocket) RawConn() syscall.RawConn { return s.raw }

// attach is the part of Attach that does not concern reading.
func (s *webSocket) attach(q *sendqueue.Queue, e Events) {
	s.queue, s.events = q, e
	q.Prepend(s.answer)
	s.answer = nil
}

// Alive, Waiting, Ping, Pong and Wake implement inbound.Listener.
func (s *webSocket) Alive(n int)                   { s.events.Alive(n) }
func (s *webSocket) Waiting(inside bool, held int) { s.events.Waiting(inside, held) }
func (s *webSocket) Pong(payload []byte)           { s.events.Pong(string(payload)) }
func (s *webSocket) Wake()                         { s.events.Wake() }

func (s *webSocket) Ping(payload []byte) {
	if s.events.Ping() {
		s.queue.Pong(sendqueue.NewFrame(sendqueue.OpPong, payload))
	}
}

func (s *webSocket) Discard() {
	_ = s.nc.SetReadDeadline(time.Now().Add(CloseGrace))
	if n, _ := io.CopyN(io.Discard, s.nc, MaxAfterEnd); n == MaxAfterEnd {
		<-s.queue.Done()
	}
}

// Write implements sendqueue.Wire.
func (s *webSocket) Write(batch []*sendqueue.Frame, m sendqueue.Meter) error {
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
func (s *webSocket) write(p []byte, m sendqueue.Meter) error {
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
