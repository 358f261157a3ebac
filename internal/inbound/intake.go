package inbound

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	// ErrQuiet is returned by [Intake.Read] instead of waiting between two messages.
	ErrQuiet = errors.New("inbound: nothing to read")
	// ErrTorn is returned by [Intake.Read] instead of io.EOF inside a message. The WebSocket
	// library would interpret io.EOF as the end of the message.
	ErrTorn = errors.New("inbound: connection ended inside a message")
)

// chunkBytes is the size of a read from a socket. The buffer is borrowed when there is something to
// read, and returned when everything in it has been taken.
const chunkBytes = 4 << 10

// aheadTime bounds the wait of [Intake.Ahead].
const aheadTime = time.Millisecond

// Intakes holds the resources shared by the intakes of many connections.
type Intakes struct {
	// read is the system call, or nil if the platform has none. Tests replace it.
	read    func(fd uintptr, p []byte) (int, error)
	buffers sync.Pool // of *[]byte, chunkBytes each
	parking *parking
}

// NewIntakes returns the shared part of intakes. With the first parked connection it calls start to
// run a goroutine, if it needs one. The caller must end it with Close.
func NewIntakes(start func(func())) *Intakes {
	return &Intakes{
		read:    socketRead(),
		buffers: sync.Pool{New: func() any { return new(make([]byte, chunkBytes)) }},
		parking: newParking(start),
	}
}

// Close ends the goroutine. When it is called, no connection may be parked; later none can be
// parked.
func (is *Intakes) Close() { is.parking.close() }

// Listener receives the events of an Intake. Its methods must not block, except where noted.
type Listener interface {
	// Heard reports n bytes from the peer. It may block: the connection is not read until it
	// returns.
	Heard(n int)
	// Waiting reports that Read is about to wait, and whether it waits inside a message or a
	// frame.
	Waiting(inside bool)
	// Wake reports input on a connection parked by [Intake.Park].
	Wake()
}

// Intake is the receiving side of a connection, below the WebSocket library. It passes all bytes to
// its [Scanner] first. It borrows a buffer only while there is data in it, and allows a quiet
// connection to wait without a goroutine. Only one goroutine may read at a time.
type Intake struct {
	shared   *Intakes
	conn     net.Conn
	raw      syscall.RawConn // nil: use conn.Read
	listener Listener
	scanner  Scanner

	borrowed   *[]byte // buffer of scanned and unscanned, if it is borrowed
	scanned    []byte  // not returned by Read yet; never more than one message
	unscanned  []byte  // after scanned
	spill      []byte  // buffer of unscanned otherwise
	partial    []byte  // start of an incomplete control frame
	violation  *Violation
	mayLeave   bool // Read returns ErrQuiet instead of waiting
	token      uint64
	registered bool // at the poller

	nudged atomic.Bool

	// Arguments and results of readOnce.
	call func(fd uintptr) bool
	into []byte
	n    int
	err  error
}

// NewIntake returns the intake of a connection. early holds the bytes that have already been read
// from it. raw must be nil unless conn is a plain socket. With a nil raw, and on platforms without
// non-blocking reads, the intake uses conn.Read.
func NewIntake(shared *Intakes, conn net.Conn, raw syscall.RawConn, early []byte) *Intake {
	if shared.read == nil {
		raw = nil
	}
	in := &Intake{shared: shared, conn: conn, raw: raw, unscanned: early}
	in.call = in.readOnce
	return in
}

// Begin sets the listener and the scanner. It must be called once, before the first Read.
func (in *Intake) Begin(listener Listener, scanner Scanner) {
	in.listener, in.scanner = listener, scanner
}

// Read implements io.Reader. One call never returns bytes from both sides of the end of a message.
// Control frames are returned only when they are complete: the WebSocket library waits for the rest
// of one with its own timeout. If a frame violates the protocol, Read returns everything before it,
// and then a *Violation.
func (in *Intake) Read(p []byte) (int, error) {
	for len(in.scanned) == 0 {
		if in.violation != nil {
			return 0, in.violation
		}
		if len(in.unscanned) > 0 {
			in.scanNext()
			continue
		}
		n, err := in.fill(p)
		if n > 0 || err != nil {
			return n, err
		}
	}
	n := copy(p, in.scanned)
	in.scanned = in.scanned[n:]
	in.returnBuffer()
	return n, nil
}

// Await blocks until Read has something to return, or returns the error that Read would return. If
// the intake uses conn.Read, it does nothing.
func (in *Intake) Await() error {
	if in.raw == nil || len(in.scanned) > 0 {
		return nil
	}
	_, err := in.Read(nil)
	return err
}

// Ahead reports whether the peer has sent more than Read has returned. Only the goroutine that
// reads may call it. If the intake uses conn.Read, it takes up to aheadTime.
func (in *Intake) Ahead() bool {
	if len(in.scanned)+len(in.unscanned)+len(in.partial) > 0 {
		return true
	}
	if in.raw == nil {
		return in.readAhead()
	}
	more := false
	err := in.raw.Control(func(fd uintptr) { more = sysPeek(fd) })
	return err == nil && more
}

// readAhead reads bytes that have arrived. A deadline in the past would prevent any read.
func (in *Intake) readAhead() bool {
	if in.conn.SetReadDeadline(time.Now().Add(aheadTime)) != nil {
		return true
	}
	in.borrowed = in.shared.buffers.Get().(*[]byte)
	n, err := in.conn.Read(*in.borrowed)
	_ = in.conn.SetReadDeadline(time.Time{})
	if in.unscanned = (*in.borrowed)[:n]; n > 0 {
		in.listener.Heard(n)
	}
	in.returnBuffer()
	return n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) // the next Read reports other errors
}

// scanNext scans the unscanned bytes up to the end of a message or a control frame.
func (in *Intake) scanNext() {
	n, wrong := in.scanner.Scan(in.unscanned)
	in.scanned, in.unscanned, in.violation = in.unscanned[:n], in.unscanned[n:], wrong
	if wrong != nil {
		in.unscanned = nil
	}
	switch {
	case in.scanner.InControl() > 0: // everything has been scanned
		in.scanned = in.holdPartial(in.scanned)
	case len(in.partial) > 0:
		in.scanned = append(in.partial, in.scanned...)
		in.partial = in.partial[:0]
	}
	in.returnBuffer()
}

// holdPartial keeps the end of p if it belongs to an incomplete control frame, and returns the
// rest.
func (in *Intake) holdPartial(p []byte) []byte {
	before := len(p) - min(len(p), in.scanner.InControl()-len(in.partial))
	in.partial = append(in.partial, p[before:]...)
	return p[:before]
}

// fill reads from the connection: directly into p if p is large, otherwise into unscanned.
func (in *Intake) fill(p []byte) (n int, err error) {
	direct := in.raw == nil || len(p) >= chunkBytes && len(in.partial) == 0
	switch {
	case in.raw == nil:
		in.listener.Waiting(!in.scanner.Between())
		n, err = in.conn.Read(p)
	case direct:
		n, err = in.try(p)
	default:
		n, err = in.try(nil)
	}
	switch {
	case n > 0: // the next read reports an error
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, in.woken()
	case errors.Is(err, io.EOF) && !in.scanner.Between():
		return 0, ErrTorn
	default:
		return 0, err
	}
	in.listener.Heard(n)
	switch {
	case !direct:
		in.unscanned = (*in.borrowed)[:n]
		return 0, nil
	case len(in.partial) > 0:
		in.spill = append(in.spill[:0], p[:n]...)
		in.unscanned = in.spill
		return 0, nil
	}
	good, wrong := in.scanner.Scan(p[:n])
	if in.violation = wrong; wrong == nil {
		in.spill = append(in.spill[:0], p[good:n]...)
		in.unscanned = in.spill
	}
	if in.scanner.InControl() > 0 {
		good = len(in.holdPartial(p[:good]))
	}
	return good, nil
}

// try reads into p, or into a borrowed buffer if p is nil.
func (in *Intake) try(p []byte) (int, error) {
	in.into, in.n, in.err = p, 0, nil
	err := in.raw.Read(in.call)
	in.into = nil
	if err == nil {
		err = in.err
	}
	return in.n, err
}

// readOnce is the callback of RawConn.Read. It is called whenever the socket may be readable, and
// reports whether RawConn.Read is to return.
func (in *Intake) readOnce(fd uintptr) bool {
	buf := in.into
	if buf == nil {
		in.borrowed = in.shared.buffers.Get().(*[]byte)
		buf = *in.borrowed
	}
	for {
		in.n, in.err = in.shared.read(fd, buf)
		if !errors.Is(in.err, syscall.EINTR) {
			break
		}
	}
	if in.n > 0 {
		in.err = nil
		return true
	}
	in.n = 0
	in.returnBuffer()
	switch {
	case in.err == nil:
		in.err = io.EOF
	case errors.Is(in.err, syscall.EAGAIN) && in.mayLeave && in.scanner.Between():
		in.err = ErrQuiet
	case errors.Is(in.err, syscall.EAGAIN):
		in.listener.Waiting(!in.scanner.Between())
		return false
	}
	return true
}

// returnBuffer returns the borrowed buffer if there is no data in it.
func (in *Intake) returnBuffer() {
	if in.borrowed != nil && len(in.scanned) == 0 && len(in.unscanned) == 0 {
		in.shared.buffers.Put(in.borrowed)
		in.borrowed, in.scanned, in.unscanned = nil, nil, nil
	}
}

// Done reports whether the bytes returned by Read end at the end of a message. If they do not, the
// WebSocket library has taken a part of a message for the whole message, and would interpret the
// rest as frames.
func (in *Intake) Done() bool { return len(in.scanned) == 0 && in.scanner.Between() }

// woken handles a deadline set by Nudge. It returns ErrQuiet between messages, and nil inside one,
// where Read goes on.
func (in *Intake) woken() error {
	_ = in.conn.SetReadDeadline(time.Time{})
	in.nudged.Store(false)
	if in.scanner.Between() {
		return ErrQuiet
	}
	return nil
}

// Wrong returns the violation that has ended Read, or nil.
func (in *Intake) Wrong() *Violation { return in.violation }

// MayLeave sets whether Read returns ErrQuiet instead of waiting between two messages. Only the
// goroutine that reads may call it.
func (in *Intake) MayLeave(may bool) { in.mayLeave = may }

// Nudge makes a Read that waits between two messages return ErrQuiet. It reports false if the
// connection cannot be parked. It is safe for concurrent use.
func (in *Intake) Nudge() bool {
	if in.raw == nil || !in.shared.parking.available() {
		return false
	}
	if !in.nudged.Swap(true) {
		_ = in.conn.SetReadDeadline(time.Unix(1, 0))
	}
	return true
}

// Park gives up the right to read. The listener is woken once, as soon as there is input. Park
// reports false if the connection cannot be parked; then the caller keeps the right to read. It may
// only be called before the first Read and after ErrQuiet.
func (in *Intake) Park() bool {
	return in.raw != nil && len(in.scanned)+len(in.unscanned) == 0 && in.violation == nil &&
		in.shared.parking.park(in)
}

// Release removes a connection that has ended from parking, and returns its buffer. The connection
// must not be read any more.
func (in *Intake) Release() {
	in.shared.parking.cancel(in)
	in.scanned, in.unscanned = nil, nil
	in.returnBuffer()
}
