package transport

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/realtime-go/realtime/internal/disconnect"
	"github.com/realtime-go/realtime/internal/inbound"
	"github.com/realtime-go/realtime/internal/sendqueue"
)

const (
	// The sizes of the buffers that coder/websocket reads and writes through. The headers of
	// frames fit in, because the intake has a larger buffer while there is input. A close frame
	// fits in, and nothing else is written.
	readBuffer, writeBuffer = 32, 128
	// spareDecoders bounds the decoders that are kept while no connection borrows them.
	spareDecoders = 1024
)

// decoder is a websocket.Conn of coder/websocket, which assembles and checks messages for the
// connection that reads right now. Between two messages it holds no state of that connection, so
// decoders are lent and a quiet connection has none.
//
// It is the net.Conn of its websocket.Conn.
type decoder struct {
	ws   *websocket.Conn
	br   *bufio.Reader
	in   *inbound.Intake        // of the borrower
	user *WebSocket             // of the borrower
	said *disconnect.CloseError // of the close frame that coder/websocket wrote
	err  error                  // of the last Read
	took bool                   // Read has returned input since the last message
}

// newDecoder returns a decoder, and the extensions that it agrees to among the offered ones.
func newDecoder(offered []string) (d *decoder, agreed string) {
	d = &decoder{}
	d.br = bufio.NewReaderSize(d, readBuffer)
	mode := websocket.CompressionDisabled
	if len(offered) > 0 {
		mode = websocket.CompressionNoContextTakeover
	}
	b := fakeWriter{d, make(http.Header)}
	ws, err := websocket.Accept(b, fakeRequest(offered), &websocket.AcceptOptions{
		InsecureSkipVerify: true,
		CompressionMode:    mode,
		OnPingReceived: func(_ context.Context, p []byte) bool {
			d.user.onPing(p)
			return false // the queue sends the pong
		},
		OnPongReceived: func(_ context.Context, p []byte) { d.user.onPong(p) },
	})
	if err != nil { // cannot happen: the request is always the same, and nothing is written
		panic("realtime: no decoder: " + err.Error())
	}
	ws.SetReadLimit(-1) // Next and the scanner have limits
	d.ws = ws
	d.br.Reset(d) // Accept has put something in between
	return d, b.header.Get(extensions)
}

// done reports whether all of the message was read that coder/websocket has returned. It does not
// read input after the last block of compressed data, and would take that for frames.
func (d *decoder) done() bool { return d.br.Buffered() == 0 && d.in.Done() }

// staleTimer reports whether err comes from a timer of coder/websocket that fired late, which
// happens if the process was stopped for some seconds. The connection is sound then and can
// continue with another decoder.
func (d *decoder) staleTimer(err error) bool {
	return errors.Is(err, net.ErrClosed) && d.err == nil && d.said == nil && !d.took
}

// Read is net.Conn.
func (d *decoder) Read(p []byte) (n int, err error) {
	n, d.err = d.in.Read(p)
	d.took = d.took || n > 0
	return n, d.err
}

// Write keeps the content of a close frame, and drops the frame: the end of the connection sends
// one. coder/websocket writes nothing else here, because pongs and data go through the queue.
func (d *decoder) Write(p []byte) (int, error) {
	if len(p) < 2 || sendqueue.Op(p[0]&0x0F) != sendqueue.OpClose {
		return len(p), nil
	}
	code, reason := disconnect.ClosePayload(p[2:])
	d.said = &disconnect.CloseError{Code: code, Reason: reason}
	return len(p), nil
}

// Close does nothing, because the queue closes the connection. The other methods of net.Conn are
// not used.
func (d *decoder) Close() error                   { return nil }
func (*decoder) LocalAddr() net.Addr              { return nil }
func (*decoder) RemoteAddr() net.Addr             { return nil }
func (*decoder) SetDeadline(time.Time) error      { return nil }
func (*decoder) SetReadDeadline(time.Time) error  { return nil }
func (*decoder) SetWriteDeadline(time.Time) error { return nil }

// fakeWriter is the http.ResponseWriter from which coder/websocket takes a decoder over.
type fakeWriter struct {
	d      *decoder
	header http.Header
}

func (b fakeWriter) Header() http.Header         { return b.header }
func (b fakeWriter) Write(p []byte) (int, error) { return len(p), nil }
func (b fakeWriter) WriteHeader(int)             {}

func (b fakeWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return b.d, bufio.NewReadWriter(b.d.br, bufio.NewWriterSize(b.d, writeBuffer)), nil
}

// fakeRequest is a handshake that coder/websocket accepts. The client's own handshake was checked
// and is answered elsewhere.
func fakeRequest(offered []string) *http.Request {
	return &http.Request{
		Method: http.MethodGet, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"Connection":  {"Upgrade"},
			"Upgrade":     {"websocket"},
			headerVersion: {"13"},
			headerKey:     {"AAAAAAAAAAAAAAAAAAAAAA=="},
			extensions:    offered,
		},
	}
}

// decoders are those that no connection borrows. A sync.Pool would not do, because a websocket.Conn
// that is not closed is never freed.
type decoders struct {
	mu    sync.Mutex
	spare []*decoder
}

// borrow returns a decoder without extensions.
func (ds *decoders) borrow(in *inbound.Intake, user *WebSocket) *decoder {
	ds.mu.Lock()
	var d *decoder
	if last := len(ds.spare) - 1; last >= 0 {
		d = ds.spare[last]
		ds.spare[last] = nil
		ds.spare = ds.spare[:last]
	}
	ds.mu.Unlock()
	if d == nil {
		d, _ = newDecoder(nil) // outside of the lock: it takes a while
	}
	d.in, d.user = in, user
	return d
}

// put takes a decoder back between two messages.
func (ds *decoders) put(d *decoder) {
	d.in, d.user, d.err = nil, nil, nil
	d.br.Reset(d)
	ds.mu.Lock()
	room := len(ds.spare) < spareDecoders
	if room {
		ds.spare = append(ds.spare, d)
	}
	ds.mu.Unlock()
	if !room {
		_ = d.ws.CloseNow()
	}
}

// close frees them.
func (ds *decoders) close() {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	for _, d := range ds.spare {
		_ = d.ws.CloseNow()
	}
	ds.spare = nil
}
