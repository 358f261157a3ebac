package sendqueue

import (
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
)

// RawWire is a Wire on a socket that can be written without blocking.
type RawWire interface {
	Wire
	// RawConn returns the socket, or nil if it must not be written to directly: TLS, a
	// wrapped connection, anything that is not plainly a socket.
	RawConn() syscall.RawConn
}

// Flushers write to the sockets of many links. A delivery wakes no goroutine of its
// receiver: it puts the receiver's link on the list of a flusher, which takes all that
// has gathered for a link by then and writes it with one system call. Under load
// batching comes by itself; without load there is nothing to wait for.
//
// The zero value is not ready, see [NewFlushers]. The goroutines start with the first
// link.
type Flushers struct {
	start func(func())
	// write is the system call, or nil where there is none. Tests replace it.
	write func(fd uintptr, p []byte) (int, error)

	once sync.Once
	all  []*flusher
	turn atomic.Uint32
}

// NewFlushers returns flushers, one for each core that Go may use, whose goroutines are
// started by start.
func NewFlushers(start func(func())) *Flushers {
	return &Flushers{start: start, write: socketWrite()}
}

// next returns the flusher for a new link.
func (fs *Flushers) next() *flusher {
	fs.once.Do(func() {
		fs.all = make([]*flusher, runtime.GOMAXPROCS(0))
		for i := range fs.all {
			f := &flusher{sys: fs.write, wake: make(chan struct{}, 1)}
			f.call = f.writeOnce
			fs.all[i] = f
			fs.start(f.run)
		}
	})
	return fs.all[int(fs.turn.Add(1))%len(fs.all)]
}

// Close ends the goroutines. All links must have ended.
func (fs *Flushers) Close() {
	fs.once.Do(func() {})
	for _, f := range fs.all {
		f.close()
	}
}

// flusher is one of the goroutines, with the links that it writes to.
type flusher struct {
	sys  func(fd uintptr, p []byte) (int, error)
	call func(fd uintptr) bool // writeOnce, bound once

	mu     sync.Mutex
	ready  []*Queue
	asleep bool
	closed bool
	wake   chan struct{}

	// The rest belongs to the goroutine.
	turn   []*Queue
	out    releases
	b      batch
	joined []byte
	same   []*Frame // whose bytes joined has
	p      []byte   // what writeOnce writes
	n      int
	err    error
	took   int // bytes that the socket took of the batch
}

// add puts a link on the list. Whoever made it Ready calls it, once.
func (f *flusher) add(l *Queue) {
	f.mu.Lock()
	f.ready = append(f.ready, l)
	wake := f.asleep
	f.asleep = false
	f.mu.Unlock()
	if wake {
		f.wake <- struct{}{}
	}
}

func (f *flusher) close() {
	f.mu.Lock()
	f.closed = true
	wake := f.asleep
	f.asleep = false
	f.mu.Unlock()
	if wake {
		f.wake <- struct{}{}
	}
}

func (f *flusher) run() {
	for f.take() {
		f.serve()
	}
}

// serve is one turn: it writes to every link that was on the list.
func (f *flusher) serve() {
	for i, l := range f.turn {
		f.flush(l)
		f.turn[i] = nil
	}
	clear(f.same)
	f.same = f.same[:0]
	f.out.end()
}

// longTurn is from how many links on a turn is expensive enough to let others push
// first what would cost as many system calls again.
const longTurn = 64

// take swaps the list for an empty one, or sleeps until there is something on it.
func (f *flusher) take() bool {
	for yielded := false; ; {
		f.mu.Lock()
		if n := len(f.ready); n >= longTurn && !yielded {
			f.mu.Unlock()
			yielded = true
			runtime.Gosched()
			continue
		} else if n > 0 {
			f.turn, f.ready = f.ready, f.turn[:0]
			f.mu.Unlock()
			return true
		}
		if f.closed {
			f.mu.Unlock()
			return false
		}
		f.asleep = true
		f.mu.Unlock()
		<-f.wake
	}
}

// flush writes what has gathered for a link, up to batchBytes, so that a link with a
// lot does not keep the others waiting.
func (f *flusher) flush(l *Queue) {
	if !l.lend(&f.b) {
		return
	}
	if l.turns == 1 { // the first is the greeting; many connections get no more
		KeepLittle(l.raw)
	}
	l.turns = min(l.turns+1, 2)
	done, cut, err := f.writeBatch(l.raw)
	l.moved.Add(uint64(f.took))
	switch {
	case err != nil:
		done = len(f.b.frames)
		l.wrote(&f.b, err)
	case done < len(f.b.frames):
		rest := f.b
		rest.frames, rest.cut = slices.Clone(f.b.frames[done:]), cut
		l.block(rest)
	default:
		f.b.took = f.took
		l.giveBack(&f.b)
	}
	f.out.add(&l.cfg.Totals.Budget, f.b.frames[:done])
	clear(f.b.frames)
}

// writeBatch writes the frames and returns how many of them the socket took, and how many
// bytes of the next.
func (f *flusher) writeBatch(raw syscall.RawConn) (done, cut int, err error) {
	frames := f.b.frames
	f.took = 0
	for done < len(frames) {
		p, next := f.join(frames, done)
		n, err := f.try(raw, p)
		f.took += n
		if err != nil {
			return 0, 0, err
		}
		if n < len(p) {
			for n >= frames[done].Len() {
				n -= frames[done].Len()
				done++
			}
			return done, n, nil
		}
		done = next
	}
	return done, 0, nil
}

// join is Join that need not be done again: members of a room have the same frames waiting.
func (f *flusher) join(frames []*Frame, i int) (p []byte, next int) {
	if slices.Equal(f.same, frames[i:]) {
		return f.joined, len(frames)
	}
	p, next = Join(frames, i, batchBytes, &f.joined)
	if f.same = f.same[:0]; next > i+1 {
		f.same = append(f.same, frames[i:next]...)
	}
	return p, next
}

// try writes p without blocking and returns how much of it the socket took.
func (f *flusher) try(raw syscall.RawConn, p []byte) (int, error) {
	f.p, f.n, f.err = p, 0, nil
	err := raw.Write(f.call)
	f.p = nil
	if err == nil {
		err = f.err
	}
	return f.n, err
}

// writeOnce is called by the RawConn. It always reports true: it never waits for the
// socket, because that would keep every other link waiting too.
func (f *flusher) writeOnce(fd uintptr) bool {
	for f.n < len(f.p) {
		n, err := f.sys(fd, f.p[f.n:])
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
			return true
		case err != nil:
			f.err = err
			return true
		}
		f.n += n
		if f.n < len(f.p) {
			return true // a short write: the buffer is full now
		}
	}
	return true
}
