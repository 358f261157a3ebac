package inbound

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// chunkBytes is the size of a read from a socket. The buffer is borrowed when there is something to
// read, and returned when everything in it has been taken.
const chunkBytes = 4 << 10

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

// Available reports whether there are non-blocking reads on this platform, which intakes need.
func (is *Intakes) Available() bool { return is.read != nil }

// Close ends the goroutine. When it is called, no connection may be parked; later none can be
// parked.
func (is *Intakes) Close() { is.parking.close() }

// Intake reads the messages of a plain socket. It borrows a buffer only while there is data in it,
// and allows a quiet connection to wait without a goroutine. Only one goroutine may read at a time.
type Intake struct {
	shared   *Intakes
	conn     net.Conn
	raw      syscall.RawConn
	listener Listener
	scanner  Scanner

	borrowed *[]byte // the buffer of unread, if it is borrowed
	unread   []byte  // has arrived and was not scanned yet
	message  []byte  // the payload so far
	control  []byte  // the payload so far of an incomplete control frame

	mayLeave   bool        // return ErrQuiet instead of waiting
	registered bool        // at the poller
	interrupts atomic.Bool // a deadline of Interrupt is set
	token      uint64

	// Arguments and results of readOnce.
	call func(fd uintptr) bool
	into []byte
	n    int
	err  error
}

// Init makes a zero intake ready. raw is the socket of conn, and early holds the bytes that have
// already been read from it.
func (in *Intake) Init(shared *Intakes, conn net.Conn, raw syscall.RawConn, early []byte) {
	in.shared, in.conn, in.raw, in.unread = shared, conn, raw, early
	in.call = in.readOnce
}

// Begin sets the listener and the size limit of messages. It must be called once, before the first
// Message.
func (in *Intake) Begin(listener Listener, maxMessage int) {
	in.listener, in.scanner = listener, NewScanner(maxMessage, false)
}

// Message appends the next message to buf, and returns its opcode. A close frame is returned
// like a message: then msg is its payload, and nothing after it is read. With wait false, or after Interrupt, it returns ErrQuiet
// instead of waiting between two messages. Other errors are a *Violation, ErrTorn, io.EOF, and
// those of the socket.
func (in *Intake) Message(buf []byte, wait bool) (op byte, msg []byte, err error) {
	in.message, in.mayLeave = buf, !wait
	for op == 0 && err == nil {
		op, err = in.step()
	}
	msg, in.message = in.message, nil
	return op, msg, err
}

// step takes or reads some bytes. It returns the opcode of a message that is complete then.
func (in *Intake) step() (op byte, err error) {
	switch {
	case len(in.unread) > 0:
		return in.take()
	case in.scanner.large():
		return in.readLarge()
	default:
		n, err := in.read(nil)
		if n > 0 {
			in.unread = (*in.borrowed)[:n]
		}
		return 0, err
	}
}

// take takes the bytes of one frame from unread.
func (in *Intake) take() (op byte, err error) {
	payload, rest, wrong := in.scanner.Next(in.unread)
	if in.unread = rest; wrong != nil {
		in.unread, err = nil, wrong
	}
	in.scanner.Unmask(payload)
	if in.scanner.inControl() {
		op = in.controlFrame(payload)
	} else {
		in.message = append(in.message, payload...)
		op = in.scanner.message()
	}
	in.returnBuffer()
	return op, err
}

// readLarge reads a part of a large frame, without a copy. The memory grows with what has arrived,
// and not with what was announced.
func (in *Intake) readLarge() (op byte, err error) {
	left := int(min(in.scanner.remaining, uint64(max(len(in.message), chunkBytes))))
	in.message = slices.Grow(in.message, left)
	n, err := in.read(in.message[len(in.message):][:left])
	payload, _, _ := in.scanner.Next(in.message[len(in.message):][:n])
	in.scanner.Unmask(payload)
	in.message = in.message[:len(in.message)+n]
	return in.scanner.message(), err
}

// controlFrame handles a control frame, if it is complete.
func (in *Intake) controlFrame(payload []byte) (op byte) {
	if in.scanner.inFrame() {
		in.control = append(in.control, payload...)
		return 0
	}
	if len(in.control) > 0 {
		payload, in.control = append(in.control, payload...), nil
	}
	switch in.scanner.op {
	case opClose:
		in.message, in.unread = append(in.message[:0], payload...), nil
		return opClose
	case opPing:
		in.listener.Ping(payload)
	case opPong:
		in.listener.Pong(payload)
	}
	return 0
}

// read reads into p, or into a borrowed buffer if p is nil. It returns no error together with
// bytes, and neither after an interrupt inside a message.
func (in *Intake) read(p []byte) (int, error) {
	in.into, in.n, in.err = p, 0, nil
	err := in.raw.Read(in.call)
	in.into = nil
	switch {
	case in.n > 0: // the next read reports an error
		in.listener.Alive(in.n)
		return in.n, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, in.interrupted()
	case err == nil:
		err = in.err
	}
	if err == io.EOF && !in.scanner.Between() {
		err = ErrTorn
	}
	return 0, err
}

// readOnce is the callback of RawConn.Read. It is called whenever the socket may be readable, and
// reports whether RawConn.Read is to return.
func (in *Intake) readOnce(fd uintptr) bool {
	p := in.into
	if p == nil {
		in.borrowed = in.shared.buffers.Get().(*[]byte)
		p = *in.borrowed
	}
	for {
		in.n, in.err = in.shared.read(fd, p)
		if in.err != syscall.EINTR {
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
	case in.err == syscall.EAGAIN && in.mayLeave && in.scanner.Between():
		in.err = ErrQuiet
	case in.err == syscall.EAGAIN:
		in.listener.Waiting(!in.scanner.Between(), cap(in.message))
		return false
	}
	return true
}

// returnBuffer returns the borrowed buffer if there is no data in it.
func (in *Intake) returnBuffer() {
	if in.borrowed != nil && len(in.unread) == 0 {
		in.shared.buffers.Put(in.borrowed)
		in.borrowed, in.unread = nil, nil
	}
}

// interrupted handles a deadline set by Interrupt. It returns ErrQuiet between messages.
func (in *Intake) interrupted() error {
	_ = in.conn.SetReadDeadline(time.Time{})
	in.interrupts.Store(false)
	if in.scanner.Between() {
		return ErrQuiet
	}
	return nil
}

// Ahead reports whether the peer has sent more than Message has returned. Only the goroutine that
// reads may call it.
func (in *Intake) Ahead() bool {
	if len(in.unread) > 0 || in.scanner.inFrame() {
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
func (in *Intake) Park() bool { return len(in.unread) == 0 && in.shared.parking.park(in) }

// Release removes a connection that has ended from parking, and returns its buffer. The connection
// must not be read any more.
func (in *Intake) Release() {
	in.shared.parking.cancel(in)
	in.unread = nil
	in.returnBuffer()
}
