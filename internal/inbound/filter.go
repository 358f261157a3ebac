package inbound

import (
	"errors"
	"net"
	"os"
	"time"
)

const (
	// filterBytes is the size of a read from a connection, except inside a payload. The buffer is
	// kept, so it is small: a header and the beginning of a payload.
	filterBytes = 64
	// aheadTime bounds the wait of [Filter.Ahead].
	aheadTime = time.Millisecond
)

// Filter is the net.Conn of the WebSocket library, which reads through it. It passes everything to
// its [Scanner] first. One Read never returns bytes from both sides of the end of a message. Whole
// pings and pongs between messages go to the listener and not to the library. Only one goroutine
// may read at a time.
type Filter struct {
	net.Conn
	listener Listener
	scanner  Scanner

	buffer    [filterBytes]byte
	scanned   []byte // not returned by Read yet
	unscanned []byte // after scanned
	violation *Violation
	held      int
}

// NewFilter returns the filter of a connection. early holds the bytes that have already been read
// from it.
func NewFilter(conn net.Conn, early []byte) *Filter {
	return &Filter{Conn: conn, unscanned: early}
}

// Begin sets the listener and the scanner. It must be called once, before the first Read.
func (f *Filter) Begin(listener Listener, scanner Scanner) {
	f.listener, f.scanner = listener, scanner
}

// Write drops p. The library only writes close frames; the send queue writes them too, so that no
// frame lands inside another one.
func (*Filter) Write(p []byte) (int, error) { return len(p), nil }

// Close does nothing: the send queue closes the connection.
func (*Filter) Close() error { return nil }

// Read implements net.Conn. If a frame violates the protocol, Read returns everything before it,
// and then a *Violation. Inside a message it returns ErrTorn instead of io.EOF, which the WebSocket
// library would interpret as the end of the message.
func (f *Filter) Read(p []byte) (int, error) {
	if f.scanner.inPayload() && len(f.scanned)+len(f.unscanned) == 0 && len(p) > filterBytes {
		n, err := f.fill(p[:min(uint64(len(p)), f.scanner.remaining)])
		_, _, _ = f.scanner.Next(p[:n])
		return n, err
	}
	if err := f.Await(); err != nil {
		return 0, err
	}
	n := copy(p, f.scanned)
	f.scanned = f.scanned[n:]
	return n, nil
}

// Await blocks until Read has something to return, or returns the error that Read would return. The
// goroutine of a silent connection waits here and not in the library, whose calls are so deep that
// its stack would be twice as large.
func (f *Filter) Await() error {
	for len(f.scanned) == 0 {
		switch {
		case f.violation != nil:
			return f.violation
		case len(f.unscanned) > 0:
			f.scan()
		default:
			n, err := f.fill(f.buffer[:])
			if f.unscanned = f.buffer[:n]; err != nil {
				return err
			}
		}
	}
	return nil
}

// scan scans the unscanned bytes up to the end of a message, or of a close frame, after which
// nothing counts. A ping or pong at the beginning is taken.
func (f *Filter) scan() {
	between := f.scanner.Between()
	payload, rest, wrong := f.scanner.Next(f.unscanned)
	if between && f.scanner.heartbeat() {
		f.scanner.Unmask(payload)
		f.scanner.tell(f.listener, payload)
		f.unscanned = rest
		return
	}
	for len(rest) > 0 && wrong == nil && f.scanner.message() == 0 && !f.scanner.closed() {
		_, rest, wrong = f.scanner.Next(rest)
	}
	f.scanned, f.unscanned = f.unscanned[:len(f.unscanned)-len(rest)], rest
	if f.violation = wrong; wrong != nil {
		f.unscanned = nil
	}
}

// fill reads from the connection. It returns no error together with bytes.
func (f *Filter) fill(p []byte) (int, error) {
	f.listener.Waiting(!f.scanner.Between(), f.held)
	n, err := f.Conn.Read(p)
	if n > 0 { // the next read reports an error
		f.listener.Alive(n)
		return n, nil
	}
	return 0, f.scanner.failed(err)
}

// Hold sets how much memory the incomplete message takes.
func (f *Filter) Hold(bytes int) { f.held = bytes }

// Ahead reports whether the peer has sent more than Read has returned. Only the goroutine that
// reads may call it. It waits for up to aheadTime.
func (f *Filter) Ahead() bool {
	if len(f.scanned)+len(f.unscanned) > 0 || f.scanner.inFrame() {
		return true
	}
	// A deadline in the past would prevent any read.
	if f.Conn.SetReadDeadline(time.Now().Add(aheadTime)) != nil {
		return true
	}
	n, err := f.Conn.Read(f.buffer[:])
	_ = f.Conn.SetReadDeadline(time.Time{})
	if f.unscanned = f.buffer[:n]; n > 0 {
		f.listener.Alive(n)
	}
	return n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) // the next Read reports other errors
}

// Done reports whether the bytes returned by Read end at the end of a message. If they do not, the
// WebSocket library has taken a part of a message for the whole message, and would interpret the
// rest as frames.
func (f *Filter) Done() bool { return len(f.scanned) == 0 && f.scanner.Between() }

// Wrong returns the violation that has ended Read, or nil.
func (f *Filter) Wrong() *Violation { return f.violation }
