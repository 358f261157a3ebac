package inbound

import (
	"errors"
	"io"
	"os"
	"slices"
	"syscall"
)

// chunkBytes is the size of a read from a socket. The buffer is borrowed when there is something to
// read, and returned when everything in it has been taken.
const chunkBytes = 4 << 10

// reader is the part of an [Intake] that assembles messages. An intake borrows one while a
// goroutine reads.
type reader struct {
	in       *Intake
	scanner  Scanner
	borrowed *[]byte // the buffer of unread, if it is borrowed
	unread   []byte  // has arrived and was not scanned yet
	message  []byte  // the payload so far
	control  []byte  // the payload so far of an incomplete control frame
	mayLeave bool    // return ErrQuiet instead of waiting

	// Arguments and results of readOnce.
	call func(fd uintptr) bool // readOnce, bound once to save an allocation
	into []byte
	n    int
	err  error
}

func newReader() *reader {
	r := &reader{}
	r.call = r.readOnce
	return r
}

// step takes or reads some bytes. It returns the opcode of a message that is complete then.
func (r *reader) step() (op byte, err error) {
	switch {
	case len(r.unread) > 0:
		return r.take()
	case r.scanner.inPayload() && r.scanner.remaining >= chunkBytes:
		return r.readLarge()
	default:
		n, err := r.read(nil)
		if n > 0 {
			r.unread = (*r.borrowed)[:n]
		}
		return 0, err
	}
}

// take takes the bytes of one frame from unread.
func (r *reader) take() (op byte, err error) {
	payload, rest, wrong := r.scanner.Next(r.unread)
	if r.unread = rest; wrong != nil {
		r.unread, err = nil, wrong
	}
	r.scanner.Unmask(payload)
	if r.scanner.inControl() {
		op = r.controlFrame(payload)
	} else {
		r.message = append(r.message, payload...)
		op = r.scanner.message()
	}
	r.returnBuffer()
	return op, err
}

// readLarge reads a part of a large frame, without a copy. The memory grows with what has arrived,
// and not with what was announced.
func (r *reader) readLarge() (op byte, err error) {
	left := int(min(r.scanner.remaining, uint64(max(len(r.message), chunkBytes))))
	r.message = slices.Grow(r.message, left)
	n, err := r.read(r.message[len(r.message):][:left])
	payload, _, _ := r.scanner.Next(r.message[len(r.message):][:n])
	r.scanner.Unmask(payload)
	r.message = r.message[:len(r.message)+n]
	return r.scanner.message(), err
}

// controlFrame handles a control frame, if it is complete.
func (r *reader) controlFrame(payload []byte) (op byte) {
	if r.scanner.inFrame() {
		r.control = append(r.control, payload...)
		return 0
	}
	if len(r.control) > 0 {
		payload, r.control = append(r.control, payload...), nil
	}
	if r.scanner.closed() {
		r.message, r.unread = append(r.message[:0], payload...), nil
		return opClose
	}
	r.scanner.tell(r.in.listener, payload)
	return 0
}

// read reads into p, or into a borrowed buffer if p is nil. It returns no error together with
// bytes, and neither after an interrupt inside a message.
func (r *reader) read(p []byte) (int, error) {
	r.into, r.n, r.err = p, 0, nil
	err := r.in.raw.Read(r.call)
	r.into = nil
	switch {
	case r.n > 0: // the next read reports an error
		r.in.listener.Alive(r.n)
		return r.n, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		r.in.interrupted()
		if !r.scanner.Between() {
			return 0, nil
		}
		err = ErrQuiet
	case err == nil:
		err = r.err
	}
	return 0, r.scanner.failed(err)
}

// readOnce is the callback of RawConn.Read. It is called whenever the socket may be readable, and
// reports whether RawConn.Read is to return.
func (r *reader) readOnce(fd uintptr) bool {
	p := r.into
	if p == nil {
		r.borrowed = r.in.shared.buffers.Get().(*[]byte)
		p = *r.borrowed
	}
	for {
		r.n, r.err = r.in.shared.read(fd, p)
		if r.err != syscall.EINTR {
			break
		}
	}
	if r.n > 0 {
		r.err = nil
		return true
	}
	r.n = 0
	r.returnBuffer()
	switch {
	case r.err == nil:
		r.err = io.EOF
	case r.err == syscall.EAGAIN && r.mayLeave && r.scanner.Between():
		r.err = ErrQuiet
	case r.err == syscall.EAGAIN:
		r.in.listener.Waiting(!r.scanner.Between(), cap(r.message))
		return false
	}
	return true
}

// returnBuffer returns the borrowed buffer if there is no data in it.
func (r *reader) returnBuffer() {
	if r.borrowed != nil && len(r.unread) == 0 {
		r.in.shared.buffers.Put(r.borrowed)
		r.borrowed, r.unread = nil, nil
	}
}
