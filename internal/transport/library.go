package transport

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"

	"github.com/coder/websocket"

	"github.com/realtime-go/realtime/internal/disconnect"
	"github.com/realtime-go/realtime/internal/inbound"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/wire"
)

const (
	// bufferBytes is the size of the buffers that coder/websocket reads and writes through, the
	// smallest there is. It reads from a filter, which has a buffer, and writes close frames only.
	bufferBytes = 16
	// firstBuffer is the capacity of the buffer for the first message of a connection.
	firstBuffer = 512
	// tlsRecord is the largest size of a TLS record in bytes, see RFC 8446 section 5.1.
	tlsRecord = 16 << 10
	// inflating is about the memory that it takes to inflate a message, without the message itself.
	inflating = 48 << 10
)

// library is a WebSocket that coder/websocket reads: over TLS, over a connection that the
// application has wrapped, or with compression. It cannot park.
type library struct {
	webSocket
	filter     *inbound.Filter
	ws         *websocket.Conn
	buffered   *bufio.Reader // of ws
	deflates   bool
	maxMessage int
}

func newLibrary(
	s webSocket, h http.Header, r *http.Request, early []byte, v1 bool,
) (Transport, error) {
	l := &library{webSocket: s, filter: inbound.NewFilter(s.nc, early)}
	opts := &websocket.AcceptOptions{
		InsecureSkipVerify: true, // origins were checked before
		CompressionMode:    websocket.CompressionDisabled,
		OnPingReceived: func(_ context.Context, p []byte) bool {
			l.Ping(p)
			return false // the queue sends the pong
		},
		OnPongReceived: func(_ context.Context, p []byte) { l.Pong(p) },
	}
	if s.shared.compress {
		opts.CompressionMode = websocket.CompressionNoContextTakeover
	}
	if v1 {
		opts.Subprotocols = []string{wire.V1}
	}
	clearAnswer(h, v1)
	ws, err := websocket.Accept(hijacked{h, l}, r, opts)
	if err != nil { // CheckHandshake has accepted the request
		return nil, errors.Join(err, s.nc.Close())
	}
	ws.SetReadLimit(-1) // Next and the filter have limits
	l.ws, l.deflates = ws, h.Get(extensions) != ""
	l.answer = appendHeader([]byte(statusLine), h)
	return l, nil
}

// hijacked is the http.ResponseWriter of a connection that was taken over before. It collects the
// headers of the answer. The answer is not written through the ResponseWriter of the server,
// because middleware that compresses or collects would hold it back until the handler returns.
type hijacked struct {
	header http.Header
	l      *library
}

func (h hijacked) Header() http.Header       { return h.header }
func (hijacked) Write(p []byte) (int, error) { return len(p), nil }
func (hijacked) WriteHeader(int)             {}

// Hijack implements http.Hijacker.
func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc := h.l.filter
	h.l.buffered = bufio.NewReaderSize(nc, bufferBytes)
	return nc, bufio.NewReadWriter(h.l.buffered, bufio.NewWriterSize(nc, bufferBytes)), nil
}

func (l *library) Deflates() bool { return l.deflates }
func (*library) Interrupt() bool  { return false }
func (*library) Park() bool       { return false }
func (l *library) Ahead() bool    { return l.buffered.Buffered() > 0 || l.filter.Ahead() }

// Unseen returns the size of a record where the connection may use TLS, which shows none of a
// record before all of it has arrived.
func (l *library) Unseen() int {
	if l.raw != nil {
		return 0
	}
	return tlsRecord
}

func (l *library) Attach(q *sendqueue.Queue, e Events, maxMessage int) {
	l.maxMessage = maxMessage
	l.attach(q, e)
	l.filter.Begin(l, inbound.NewScanner(maxMessage, l.deflates))
}

func (l *library) Release() { _ = l.ws.CloseNow() }

func (l *library) Next(buf []byte, _ bool) (sendqueue.Op, []byte, error) {
	defer l.filter.Hold(0)
	if l.buffered.Buffered() == 0 {
		if err := l.filter.Await(); err != nil {
			return 0, nil, failed(err)
		}
	}
	typ, r, err := l.ws.Reader(context.Background())
	if err != nil {
		return 0, nil, l.failed(err)
	}
	if cap(buf) == 0 {
		buf = make([]byte, 0, firstBuffer)
	}
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		l.hold(buf)
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case len(buf) > l.maxMessage:
			return 0, nil, tooBig()
		case err == io.EOF && !l.done():
			return 0, nil, protocolError("compressed data ends before the message", nil)
		case err == io.EOF:
			return sendqueue.Op(typ), buf, nil
		case err != nil:
			return 0, nil, l.failed(err)
		}
	}
}

// hold tells the filter how much memory the message in buf takes that is being read.
func (l *library) hold(buf []byte) {
	bytes := cap(buf)
	if l.deflates {
		bytes += inflating
	}
	l.filter.Hold(bytes)
}

// done reports whether all of the message was read that coder/websocket has returned. It does not
// read input after the last block of compressed data, and would take that for frames.
func (l *library) done() bool { return l.buffered.Buffered() == 0 && l.filter.Done() }

// failed turns an error of coder/websocket into the error of the connection.
func (l *library) failed(err error) error {
	if wrong := l.filter.Wrong(); wrong != nil {
		return failed(wrong)
	}
	if ce, ok := errors.AsType[websocket.CloseError](err); ok {
		return closedByPeer(disconnect.CloseCode(ce.Code), ce.Reason, true)
	}
	return failed(err)
}
