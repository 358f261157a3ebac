//go:build linux

package load

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// loop is the event loop of the generator: one goroutine waits for all sockets, so that the
// generator costs little compared with the server, and needs no locks.
type loop struct {
	epoll   int
	awake   bool // the loop never sleeps
	events  []unix.EpollEvent
	buf     []byte // data being read, after the carry of the client
	sealed  []byte // data before decryption
	start   time.Time
	clients map[int]*client

	// receive handles data for c, and returns the part that is incomplete.
	receive func(c *client, data []byte) (rest []byte, err error)
	closed  int // number of connections that the server has ended
}

func newLoop(awake bool) (*loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return &loop{
		epoll:   epoll,
		awake:   awake,
		events:  make([]unix.EpollEvent, 256),
		buf:     make([]byte, 1<<20),
		sealed:  make([]byte, 1<<19),
		start:   time.Now(),
		clients: make(map[int]*client),
	}, nil
}

// now returns the time since the start of the loop, on the monotonic clock.
func (l *loop) now() time.Duration { return time.Since(l.start) }

func (l *loop) add(c *client) error {
	l.clients[c.fd] = c
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.fd)}
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, c.fd, &e)
}

// ignore stops watching a connection, which stays open.
func (l *loop) ignore(c *client) {
	_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, c.fd, nil)
}

func (l *loop) watch(c *client, events uint32) {
	e := unix.EpollEvent{Events: events, Fd: int32(c.fd)}
	_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, c.fd, &e)
}

// wait waits for events until the given time, handles them, and returns.
func (l *loop) wait(until time.Duration) error {
	left := (until - l.now() + time.Millisecond - 1) / time.Millisecond
	if l.awake {
		left = 0
	}
	n, err := unix.EpollWait(l.epoll, l.events, int(max(left, 0)))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("epoll: %w", err)
	}
	for _, e := range l.events[:max(n, 0)] {
		c := l.clients[int(e.Fd)]
		if c == nil || c.closed {
			continue
		}
		if e.Events&unix.EPOLLOUT != 0 {
			l.push(c, nil)
		}
		if e.Events&^unix.EPOLLOUT != 0 {
			if err := l.read(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// read reads once. If the socket has more data, epoll reports it again.
func (l *loop) read(c *client) error {
	kept := copy(l.buf, c.carry)
	into := l.buf[kept:]
	if c.tls != nil {
		into = l.sealed
	}
	n, err := unix.Read(c.fd, into)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	case err != nil || n == 0:
		l.end(c)
		return nil
	}
	data := l.buf[:kept+n]
	if c.tls != nil {
		if data, err = c.tls.decrypt(l.buf[:kept], into[:n]); err != nil {
			l.end(c)
			return nil
		}
	}
	rest, err := l.receive(c, data)
	c.carry = append(c.carry[:0], rest...)
	return err
}

// write sends data.
func (l *loop) write(c *client, data []byte) {
	if c.tls != nil {
		var err error
		if data, err = c.tls.encrypt(data); err != nil {
			l.end(c)
			return
		}
	}
	l.push(c, data)
}

// push sends data as it is, after the bytes that already wait.
func (l *loop) push(c *client, data []byte) {
	if len(c.out) > 0 {
		c.out = append(c.out, data...)
		data = c.out
	}
	n, err := unix.Write(c.fd, data)
	if err != nil && !errors.Is(err, unix.EAGAIN) {
		l.end(c)
		return
	}
	waited := len(c.out) > 0
	c.out = append(c.out[:0], data[max(n, 0):]...)
	if waits := len(c.out) > 0; waits && !waited {
		l.watch(c, unix.EPOLLIN|unix.EPOLLOUT)
	} else if waited && !waits {
		l.watch(c, unix.EPOLLIN)
	}
}

// end closes a connection that the server has ended.
func (l *loop) end(c *client) {
	if c.closed {
		return
	}
	c.closed = true
	l.closed++
	delete(l.clients, c.fd)
	_ = unix.Close(c.fd)
}

// close resets all connections, so that nothing remains in the kernel.
func (l *loop) close() {
	for fd := range l.clients {
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		_ = unix.Close(fd)
	}
	_ = unix.Close(l.epoll)
}
