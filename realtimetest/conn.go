package realtimetest

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// socketBuffer is the number of bytes that one direction buffers before a writer waits.
const socketBuffer = 64 << 10

// conn is one end of a connection in memory.
type conn struct {
	in, out     *wire
	local, peer net.Addr
}

func newPair(near, far net.Addr) (*conn, *conn) {
	up, down := newWire(), newWire()
	return &conn{down, up, near, far}, &conn{up, down, far, near}
}

func (c *conn) Read(p []byte) (int, error)         { return c.in.read(p) }
func (c *conn) Write(p []byte) (int, error)        { return c.out.write(p) }
func (c *conn) LocalAddr() net.Addr                { return c.local }
func (c *conn) RemoteAddr() net.Addr               { return c.peer }
func (c *conn) SetReadDeadline(t time.Time) error  { return c.in.set(&c.in.readDeadline, t) }
func (c *conn) SetWriteDeadline(t time.Time) error { return c.out.set(&c.out.writeDeadline, t) }

func (c *conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *conn) Close() error {
	c.in.closeRead()
	c.out.closeWrite()
	return nil
}

// wire is one direction of a connection.
type wire struct {
	mu            sync.Mutex
	changed       sync.Cond
	buf           []byte
	readDeadline  time.Time
	writeDeadline time.Time
	paused        bool // nothing can be read
	discards      bool // written bytes are discarded
	ended         bool // the writer has closed: the buffered bytes can still be read
	closed        bool // the reader has closed
}

func newWire() *wire {
	w := &wire{}
	w.changed.L = &w.mu
	return w
}

func (w *wire) read(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		switch {
		case w.closed:
			return 0, net.ErrClosed
		case expired(w.readDeadline):
			return 0, os.ErrDeadlineExceeded
		case len(w.buf) > 0 && !w.paused:
			n := copy(p, w.buf)
			w.buf = w.buf[n:]
			w.changed.Broadcast()
			return n, nil
		case w.ended && len(w.buf) == 0:
			return 0, io.EOF
		}
		w.wait(w.readDeadline)
	}
}

func (w *wire) write(p []byte) (n int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n < len(p) {
		switch {
		case w.ended:
			return n, net.ErrClosed
		case w.closed:
			return n, io.ErrClosedPipe
		case expired(w.writeDeadline):
			return n, os.ErrDeadlineExceeded
		case w.discards && len(w.buf) < socketBuffer:
			return len(p), nil
		case len(w.buf) < socketBuffer:
			k := min(len(p)-n, socketBuffer-len(w.buf))
			w.buf = append(w.buf, p[n:n+k]...)
			n += k
			w.changed.Broadcast()
		default:
			w.wait(w.writeDeadline)
		}
	}
	return n, nil
}

// wait waits for a change, or for the deadline if there is one. w.mu is held.
func (w *wire) wait(by time.Time) {
	if !by.IsZero() {
		t := time.AfterFunc(time.Until(by), w.notify)
		defer t.Stop()
	}
	w.changed.Wait()
}

func expired(by time.Time) bool { return !by.IsZero() && !time.Now().Before(by) }

func (w *wire) notify() { w.update(func() {}) }

func (w *wire) set(which *time.Time, t time.Time) error {
	w.update(func() { *which = t })
	return nil
}

func (w *wire) pause(yes bool) { w.update(func() { w.paused = yes }) }
func (w *wire) discard()       { w.update(func() { w.discards, w.paused = true, true }) }
func (w *wire) closeRead()     { w.update(func() { w.closed = true }) }

// closeWrite ends the stream after the buffered bytes, unless the wire discards everything.
func (w *wire) closeWrite() { w.update(func() { w.ended = w.ended || !w.discards }) }

// reset ends the stream at once.
func (w *wire) reset() { w.update(func() { w.ended, w.buf = true, nil }) }

func (w *wire) update(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	w.changed.Broadcast()
}
