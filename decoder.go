package realtime

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
	// The buffers that coder/websocket reads and writes through: just enough for the
	// headers of frames, as the intake has a larger one while there is something to read,
	// and for a close frame, which is all that it writes.
	readBuffer, writeBuffer = 32, 128
	// spareDecoders is how many decoders are kept that nobody has.
	spareDecoders = 1024
)

// decoder is coder/websocket, which puts messages together and checks them, for whoever
// reads right now. Between two messages it has nothing of a connection's, so a connection
// that is quiet needs none: decoders are lent.
//
// It is the net.Conn of its websocket.Conn.
type decoder struct {
	ws   *websocket.Conn
	br   *bufio.Reader
	in   *inbound.Intake // of who has it
	ctrl controls        // the same one's
	said *CloseError     // in a close frame that coder/websocket wanted to write
	err  error           // of the last Read
	took bool            // something since the last message
}

// controls is told of control frames.
type controls interface {
	onPing(payload []byte)
	onPong(payload []byte)
}

// newDecoder returns a decoder, and what it agrees to of the extensions that are offered.
func newDecoder(offered []string) (d *decoder, agreed string) {
	d = &decoder{}
	d.br = bufio.NewReaderSize(d, readBuffer)
	mode := websocket.CompressionDisabled
	if len(offered) > 0 {
		mode = websocket.CompressionNoContextTakeover
	}
	b := birth{d, make(http.Header)}
	ws, err := websocket.Accept(b, birthRequest(offered), &websocket.AcceptOptions{
		InsecureSkipVerify: true,
		CompressionMode:    mode,
		OnPingReceived: func(_ context.Context, p []byte) bool {
			d.ctrl.onPing(p)
			return false // the pong is ours
		},
		OnPongReceived: func(_ context.Context, p []byte) { d.ctrl.onPong(p) },
	})
	if err != nil { // the request is always the same, and nothing is written
		panic("realtime: no decoder: " + err.Error())
	}
	ws.SetReadLimit(-1) // receive and the scanner have their own
	d.ws = ws
	d.br.Reset(d) // Accept has put something in between
	return d, b.header.Get(extensions)
}

// done reports whether all of the message has been read that coder/websocket says it has
// read. It leaves out what comes behind the final block of compressed data, and would then
// take that for frames.
func (d *decoder) done() bool { return d.br.Buffered() == 0 && d.in.Done() }

// worn reports whether an error of coder/websocket is nobody's fault: a timer that it keeps
// for control frames has gone off late, as happens when the process was stopped for some
// seconds. Whoever has the decoder can go on with another.
func (d *decoder) worn(err error) bool {
	return errors.Is(err, net.ErrClosed) && d.err == nil && d.said == nil && !d.took
}

// Read is net.Conn.
func (d *decoder) Read(p []byte) (n int, err error) {
	n, d.err = d.in.Read(p)
	d.took = d.took || n > 0
	return n, d.err
}

// Write keeps what a close frame says: the end of the connection sends it. coder/websocket
// writes nothing else: pongs are ours and data goes through the link.
func (d *decoder) Write(p []byte) (int, error) {
	if len(p) < 2 || sendqueue.Op(p[0]&0x0F) != sendqueue.OpClose {
		return len(p), nil
	}
	code, reason := disconnect.ClosePayload(p[2:])
	d.said = &CloseError{Code: code, Reason: reason}
	return len(p), nil
}

// Close does nothing: the connection is the link's. The rest of net.Conn is not used.
func (d *decoder) Close() error                   { return nil }
func (*decoder) LocalAddr() net.Addr              { return nil }
func (*decoder) RemoteAddr() net.Addr             { return nil }
func (*decoder) SetDeadline(time.Time) error      { return nil }
func (*decoder) SetReadDeadline(time.Time) error  { return nil }
func (*decoder) SetWriteDeadline(time.Time) error { return nil }

// birth is the http.ResponseWriter from which coder/websocket takes over a decoder.
type birth struct {
	d      *decoder
	header http.Header
}

func (b birth) Header() http.Header         { return b.header }
func (b birth) Write(p []byte) (int, error) { return len(p), nil }
func (b birth) WriteHeader(int)             {}

func (b birth) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return b.d, bufio.NewReadWriter(b.d.br, bufio.NewWriterSize(b.d, writeBuffer)), nil
}

// birthRequest is a handshake to the liking of coder/websocket. The client's own has been
// checked and is answered elsewhere.
func birthRequest(offered []string) *http.Request {
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

// decoders are those that nobody has. Not a sync.Pool: what coder/websocket is not told to
// close is never freed.
type decoders struct {
	mu    sync.Mutex
	spare []*decoder
}

// lend returns a decoder without extensions.
func (ds *decoders) lend(in *inbound.Intake, ctrl controls) *decoder {
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
	d.in, d.ctrl = in, ctrl
	return d
}

// giveBack takes a decoder back between two messages.
func (ds *decoders) giveBack(d *decoder) {
	d.in, d.ctrl, d.err = nil, nil, nil
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
