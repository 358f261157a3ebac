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
	// ErrQuiet is what [Intake.Read] returns in place of waiting, between two messages.
	ErrQuiet = errors.New("inbound: nothing to read")
	// ErrTorn is what it returns in place of io.EOF inside a message, which the
	// WebSocket library would take for the end of the message.
	ErrTorn = errors.New("inbound: connection ended inside a message")
)

// chunkBytes is how much is read from a socket at once. The buffer is borrowed when
// there is something to read, and given back when all of it was taken.
const chunkBytes = 4 << 10

// glanceTime is how long [Intake.Ahead] waits at most.
const glanceTime = time.Millisecond

// Intakes is what the intakes of many connections share.
type Intakes struct {
	// read is the system call, or nil where there is none. Tests replace it.
	read    func(fd uintptr, p []byte) (int, error)
	buffers sync.Pool // of *[]byte, chunkBytes each
	parking *parking
}

// NewIntakes returns what intakes share. Its goroutine, if it needs one, is started by
// start with the first socket.
func NewIntakes(start func(func())) *Intakes {
	return &Intakes{
		read:    socketRead(),
		buffers: sync.Pool{New: func() any { return new(make([]byte, chunkBytes)) }},
		parking: newParking(start),
	}
}

// Close ends the goroutine. Nothing can be parked from then on, and nothing may be.
func (is *Intakes) Close() { is.parking.close() }

// Listener is told by an intake what happens. Where nothing else is said, its methods must
// not block.
type Listener interface {
	// Heard says that the peer has sent n bytes. It may block: nothing is read until it
	// returns.
	Heard(n int)
	// Waiting says that Read is about to wait, and whether that is inside a message or
	// a frame.
	Waiting(inside bool)
	// Wake says that there is something to read, after [Intake.Park].
	Wake()
}

// Intake is the receiving side of a connection, below the WebSocket library: it has its
// [Scanner] look at everything first, borrows a buffer only while there is something in
// it, and lets a quiet connection wait without a goroutine. One goroutine reads at a time.
type Intake struct {
	shared *Intakes
	conn   net.Conn
	raw    syscall.RawConn // nil: conn has to be read through its own Read
	ears   Listener
	scan   Scanner

	lent  *[]byte // what chunk and rest lie in, if it was borrowed
	chunk []byte  // scanned, and not taken yet: of one message
	rest  []byte  // behind it, and not scanned yet
	spill []byte  // what rest lies in otherwise
	held  []byte  // of a control frame that has not come whole
	wrong *Violation
	leave bool // Read may return ErrQuiet at once
	token uint64
	known bool // to the poller

	nudged atomic.Bool

	// Arguments and results of readOnce.
	call func(fd uintptr) bool
	into []byte
	n    int
	err  error
}

// NewIntake returns the intake of a connection. early is what has been read from it
// already. raw is nil if conn is anything but a plain socket. Where sockets cannot be read without
// waiting, conn is read through its own Read whatever it is.
func NewIntake(shared *Intakes, conn net.Conn, raw syscall.RawConn, early []byte) *Intake {
	if shared.read == nil {
		raw = nil
	}
	in := &Intake{shared: shared, conn: conn, raw: raw, rest: early}
	in.call = in.readOnce
	return in
}

// Begin tells the intake who listens and what the scanner holds against. It is called
// once, before the first Read.
func (in *Intake) Begin(ears Listener, scan Scanner) { in.ears, in.scan = ears, scan }

// Read is io.Reader. It returns nothing behind the end of a message as long as there is
// something before it, and control frames only when they have come whole: the WebSocket
// library waits for the rest of one with a clock of its own. When a frame breaks the rules,
// Read returns all that came before that, and then a *Violation.
func (in *Intake) Read(p []byte) (int, error) {
	for len(in.chunk) == 0 {
		if in.wrong != nil {
			return 0, in.wrong
		}
		if len(in.rest) > 0 {
			in.look()
			continue
		}
		n, err := in.fill(p)
		if n > 0 || err != nil {
			return n, err
		}
	}
	n := copy(p, in.chunk)
	in.chunk = in.chunk[n:]
	in.giveBack()
	return n, nil
}

// Await waits until Read has something to return, or returns the error that Read would. It does
// nothing for a connection that has to be read through its own Read.
func (in *Intake) Await() error {
	if in.raw == nil || len(in.chunk) > 0 {
		return nil
	}
	_, err := in.Read(nil)
	return err
}

// Ahead reports whether more has come than Read has returned. The goroutine that reads calls it. It
// takes up to glanceTime for a connection that has to be read through its own Read.
func (in *Intake) Ahead() bool {
	if len(in.chunk)+len(in.rest)+len(in.held) > 0 {
		return true
	}
	if in.raw == nil {
		return in.glance()
	}
	more := false
	err := in.raw.Control(func(fd uintptr) { more = sysPeek(fd) })
	return err == nil && more
}

// glance reads what has come: a Read with a deadline that is over already would not even look.
func (in *Intake) glance() bool {
	if in.conn.SetReadDeadline(time.Now().Add(glanceTime)) != nil {
		return true
	}
	in.lent = in.shared.buffers.Get().(*[]byte)
	n, err := in.conn.Read(*in.lent)
	_ = in.conn.SetReadDeadline(time.Time{})
	if in.rest = (*in.lent)[:n]; n > 0 {
		in.ears.Heard(n)
	}
	in.giveBack()
	return n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) // another error comes again
}

// look has the scanner look at the rest.
func (in *Intake) look() {
	n, wrong := in.scan.Scan(in.rest)
	in.chunk, in.rest, in.wrong = in.rest[:n], in.rest[n:], wrong
	if wrong != nil {
		in.rest = nil
	}
	switch {
	case in.scan.InControl() > 0: // so the rest is empty
		in.chunk = in.hold(in.chunk)
	case len(in.held) > 0:
		in.chunk = append(in.held, in.chunk...)
		in.held = in.held[:0]
	}
	in.giveBack()
}

// hold keeps back what is at the end of p of a control frame, and returns what is not.
func (in *Intake) hold(p []byte) []byte {
	before := len(p) - min(len(p), in.scan.InControl()-len(in.held))
	in.held = append(in.held, p[before:]...)
	return p[:before]
}

// fill reads from the connection: a lot into p itself, less into the rest.
func (in *Intake) fill(p []byte) (n int, err error) {
	direct := in.raw == nil || len(p) >= chunkBytes && len(in.held) == 0
	switch {
	case in.raw == nil:
		in.ears.Waiting(!in.scan.Between())
		n, err = in.conn.Read(p)
	case direct:
		n, err = in.try(p)
	default:
		n, err = in.try(nil)
	}
	switch {
	case n > 0: // an error comes again
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, in.roused()
	case errors.Is(err, io.EOF) && !in.scan.Between():
		return 0, ErrTorn
	default:
		return 0, err
	}
	in.ears.Heard(n)
	switch {
	case !direct:
		in.rest = (*in.lent)[:n]
		return 0, nil
	case len(in.held) > 0:
		in.spill = append(in.spill[:0], p[:n]...)
		in.rest = in.spill
		return 0, nil
	}
	good, wrong := in.scan.Scan(p[:n])
	if in.wrong = wrong; wrong == nil {
		in.spill = append(in.spill[:0], p[good:n]...)
		in.rest = in.spill
	}
	if in.scan.InControl() > 0 {
		good = len(in.hold(p[:good]))
	}
	return good, nil
}

// try reads into p, or into a borrowed buffer if that is nil.
func (in *Intake) try(p []byte) (int, error) {
	in.into, in.n, in.err = p, 0, nil
	err := in.raw.Read(in.call)
	in.into = nil
	if err == nil {
		err = in.err
	}
	return in.n, err
}

// readOnce is called by the RawConn, whenever there may be something to read. It reports
// whether Read is to return.
func (in *Intake) readOnce(fd uintptr) bool {
	buf := in.into
	if buf == nil {
		in.lent = in.shared.buffers.Get().(*[]byte)
		buf = *in.lent
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
	in.giveBack()
	switch {
	case in.err == nil:
		in.err = io.EOF
	case errors.Is(in.err, syscall.EAGAIN) && in.leave && in.scan.Between():
		in.err = ErrQuiet
	case errors.Is(in.err, syscall.EAGAIN):
		in.ears.Waiting(!in.scan.Between())
		return false
	}
	return true
}

// giveBack returns a borrowed buffer in which nothing is left.
func (in *Intake) giveBack() {
	if in.lent != nil && len(in.chunk) == 0 && len(in.rest) == 0 {
		in.shared.buffers.Put(in.lent)
		in.lent, in.chunk, in.rest = nil, nil, nil
	}
}

// Done reports whether what Read has returned ends where a message does. If not, the
// WebSocket library has taken a part of a message for the whole, and would take the other
// part for frames.
func (in *Intake) Done() bool { return len(in.chunk) == 0 && in.scan.Between() }

// roused says why Read was woken though nothing came: to leave or, in the middle of
// something, to go on.
func (in *Intake) roused() error {
	_ = in.conn.SetReadDeadline(time.Time{})
	in.nudged.Store(false)
	if in.scan.Between() {
		return ErrQuiet
	}
	return nil
}

// Wrong returns what the peer did wrong, if that is why Read has ended.
func (in *Intake) Wrong() *Violation { return in.wrong }

// MayLeave says whether Read returns ErrQuiet at once where it would wait between two
// messages. The one who reads calls it.
func (in *Intake) MayLeave(leave bool) { in.leave = leave }

// Nudge makes a Read that waits between two messages return ErrQuiet. It reports false
// if there is nowhere to park. Any goroutine may call it.
func (in *Intake) Nudge() bool {
	if in.raw == nil || !in.shared.parking.works() {
		return false
	}
	if !in.nudged.Swap(true) {
		_ = in.conn.SetReadDeadline(time.Unix(1, 0))
	}
	return true
}

// Park gives up the right to read, and has the listener woken once when there is
// something to read, at once if there is already. It reports false if that cannot be
// done; the caller then reads on. It is called before the first Read or after ErrQuiet.
func (in *Intake) Park() bool {
	return in.raw != nil && len(in.chunk)+len(in.rest) == 0 && in.wrong == nil &&
		in.shared.parking.park(in)
}

// Release forgets a connection that was parked when it ended. Nobody reads any more.
func (in *Intake) Release() {
	in.shared.parking.forget(in)
	in.chunk, in.rest = nil, nil
	in.giveBack()
}
