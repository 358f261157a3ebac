//go:build !realtime_portable

package inbound

import (
	"errors"
	"os"
	"syscall"
)

const (
	canPoll = true
	// pollEvents is the maximum number of events taken from the kernel at once.
	pollEvents = 128
	// Input or the end of input, reported once: epoll(7).
	pollFor = syscall.EPOLLIN | syscall.EPOLLRDHUP | 1<<30 // EPOLLONESHOT
)

// pollCalls are the system calls of a poller. Tests replace them.
type pollCalls struct {
	create func(flags int) (int, error)
	ctl    func(epfd, op, fd int, event *syscall.EpollEvent) error
	wait   func(epfd int, events []syscall.EpollEvent, msec int) (int, error)
}

var sysPoll = pollCalls{syscall.EpollCreate1, syscall.EpollCtl, syscall.EpollWait}

// poller waits for input on many descriptors with its own epoll instance. The poller of the Go
// runtime waits for that instance, so it needs no thread.
type poller struct {
	sys    pollCalls
	file   *os.File
	raw    syscall.RawConn
	events [pollEvents]syscall.EpollEvent
	n      int
	err    error
}

func newPoller(sys pollCalls) (*poller, error) {
	fd, err := sys.create(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	p := &poller{sys: sys}
	err = syscall.SetNonblock(fd, true) // so that os.NewFile registers it with the runtime
	p.file = os.NewFile(uintptr(fd), "epoll")
	if err == nil {
		p.raw, err = p.file.SyscallConn()
	}
	if err != nil {
		return nil, errors.Join(err, p.file.Close())
	}
	return p, nil
}

// watch requests one event with this token. While Control runs, neither descriptor can be closed
// and its number reused.
func (p *poller) watch(raw syscall.RawConn, token uint64, again bool) error {
	op := syscall.EPOLL_CTL_ADD
	if again {
		op = syscall.EPOLL_CTL_MOD
	}
	var w struct { // one allocation
		event     syscall.EpollEvent
		gone, err error
	}
	w.event = syscall.EpollEvent{Events: pollFor, Fd: int32(token), Pad: int32(token >> 32)}
	closed := p.raw.Control(func(epfd uintptr) {
		w.gone = raw.Control(func(fd uintptr) { w.err = p.sys.ctl(int(epfd), op, int(fd), &w.event) })
	})
	return errors.Join(closed, w.gone, w.err)
}

// run calls fired with the token of each event, until close or an error.
func (p *poller) run(fired func(token uint64)) {
	for p.raw.Read(p.poll) == nil && p.err == nil {
		for _, e := range p.events[:p.n] {
			fired(uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32)
		}
	}
	_ = p.file.Close()
}

// poll is the callback of RawConn.Read, called whenever there may be events.
func (p *poller) poll(fd uintptr) bool {
	for {
		p.n, p.err = p.sys.wait(int(fd), p.events[:], 0)
		if !errors.Is(p.err, syscall.EINTR) {
			break
		}
	}
	p.n = max(p.n, 0)
	return p.n > 0 || p.err != nil
}

// close makes run return.
func (p *poller) close() { _ = p.file.Close() }
