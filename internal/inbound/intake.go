package inbound

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Intakes holds the resources shared by the intakes of many connections.
type Intakes struct {
	// read is the system call, or nil if the platform has none. Tests replace it.
	read    func(fd uintptr, p []byte) (int, error)
	buffers sync.Pool // of *[]byte, chunkBytes each
	readers sync.Pool // of *reader
	parking *parking
}

// NewIntakes returns the shared part of intakes. With the first parked connection it calls start to
// run a goroutine, if it needs one. The caller must end it with Close.
func NewIntakes(start func(func())) *Intakes {
	return &Intakes{
		read:    socketRead(),
		buffers: sync.Pool{New: func() any { return new(make([]byte, chunkBytes)) }},
		readers: sync.Pool{New: func() any { return newReader() }},
		parking: newParking(start),
	}
}

// Available reports whether there are non-blocking reads on this platform, which intakes need.
func (is *Intakes) Available() bool { return is.read != nil }

// Close ends the goroutine. When it is called, no connection may be parked; later none can be
// parked.
func (is *Intakes) Close() { is.parking.close() }

// Intake reads the messages of a plain socket, and allows a quiet connection to wait without a
// goroutine. It takes little memory except while a goroutine reads. Only one goroutine may read at
// a time.
type Intake struct {
	shared     *Intakes
	conn       net.Conn
	raw        syscall.RawConn
	listener   Listener
	maxMessage int
	reader     *reader // nil while no goroutine reads

	interrupts atomic.Bool // a deadline of Interrupt is set
	registered bool        // at the poller
	token      uint64      // of the last Park
}

// Init makes a zero intake ready. raw is the socket of conn, and early holds the bytes that have
// already been read from it.
func (in *Intake) Init(shared *Intakes, conn net.Conn, raw syscall.RawConn, early []byte) {
	in.shared, in.conn, in.raw = shared, conn, raw
	if len(early) > 0 {
		in.begin().unread = early
	}
}

// Begin sets the listener and the size limit of messages. It must be called once, before the first
// Message.
func (in *Intake) Begin(listener Listener, maxMessage int) {
	in.listener, in.maxMessage = listener, maxMessage
	if in.reader != nil {
		in.reader.scanner = NewScanner(maxMessage, false)
	}
}

// begin returns the reader. It borrows one if there is none.
func (in *Intake) begin() *reader {
	if in.reader == nil {
		in.reader = in.shared.readers.Get().(*reader)
		in.reader.in, in.reader.scanner = in, NewScanner(in.maxMessage, false)
	}
	return in.reader
}

// end returns the reader.
func (in *Intake) end() {
	if r := in.reader; r != nil {
		in.reader = nil
		r.unread = nil
		r.returnBuffer()
		*r = reader{call: r.call}
		in.shared.readers.Put(r)
	}
}

// Message appends the next message to buf, and returns its opcode. A close frame is returned
// like a message: then msg is its payload, and nothing after it is read. With wait false, or after
// Interrupt, it returns ErrQuiet instead of waiting between two messages. Other errors are a
// *Violation, ErrTorn, io.EOF, and those of the socket.
func (in *Intake) Message(buf []byte, wait bool) (op byte, msg []byte, err error) {
	r := in.begin()
	r.message, r.mayLeave = buf, !wait
	for op == 0 && err == nil {
		op, err = r.step()
	}
	msg, r.message = r.message, nil
	return op, msg, err
}

// interrupted handles a deadline set by Interrupt.
func (in *Intake) interrupted() {
	_ = in.conn.SetReadDeadline(time.Time{})
	in.interrupts.Store(false)
}

// Ahead reports whether the peer has sent more than Message has returned. Only the goroutine that
// reads may call it.
func (in *Intake) Ahead() bool {
	if r := in.reader; r != nil && (len(r.unread) > 0 || r.scanner.inFrame()) {
		return true
	}
	more := false
	err := in.raw.Control(func(fd uintptr) { more = sysPeek(fd) })
	return err == nil && more
}

// Interrupt makes a Message that waits between two messages return ErrQuiet. It reports false if
// the connection cannot be parked. It is safe for concurrent use.
func (in *Intake) Interrupt() bool {
	if !in.shared.parking.available() {
		return false
	}
	if !in.interrupts.Swap(true) {
		_ = in.conn.SetReadDeadline(time.Unix(1, 0))
	}
	return true
}

// Park gives up the right to read. The listener is woken once, as soon as there is input. Park
// reports false if the connection cannot be parked; then the caller keeps the right to read. It may
// only be called before the first Message and after ErrQuiet.
func (in *Intake) Park() bool {
	if in.reader != nil && len(in.reader.unread) > 0 {
		return false
	}
	in.end()
	return in.shared.parking.park(in)
}

// Release removes a connection that has ended from parking, and frees what it has borrowed. The
// connection must not be read any more.
func (in *Intake) Release() {
	in.shared.parking.cancel(in)
	in.end()
}
