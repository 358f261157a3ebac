package sendqueue

import (
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
)

// RawWire is a Wire whose socket may support writing without blocking.
type RawWire interface {
	Wire
	// RawConn returns the socket, or nil if it must not be written to directly: with TLS, with a
	// wrapped connection, or if it is not a socket.
	RawConn() syscall.RawConn
}

// Flushers write to the sockets of many queues. A push wakes no goroutine of the receiver. It puts
// the queue on the list of a flusher, which takes all frames queued until then and writes them with
// one system call. Under load, frames are batched in this way; without load, a frame is written at
// once. A queue that becomes ready alone goes to a flusher of its own; in a [Wakeups], to any.
//
// The zero value is not usable, see [NewFlushers]. The goroutines start when the first queue is
// made.
type Flushers struct {
	start func(func())
	// write is the system call, or nil if the platform has none. Tests replace it.
	write func(fd uintptr, p []byte) (int, error)

	once      sync.Once
	closed    sync.Once
	flushers  []*flusher
	nextIndex atomic.Uint32
}

// NewFlushers returns GOMAXPROCS flushers, whose goroutines are started by start.
func NewFlushers(start func(func())) *Flushers {
	return &Flushers{start: start, write: socketWrite()}
}

// next returns the flusher of a new queue, for when it becomes ready alone.
func (fs *Flushers) next() *flusher {
	fs.once.Do(func() {
		fs.flushers = make([]*flusher, runtime.GOMAXPROCS(0))
		for i := range fs.flushers {
			f := &flusher{sys: fs.write, wake: make(chan struct{}, 1), stop: Queue{state: Dead}}
			f.call = f.writeOnce
			fs.flushers[i] = f
			fs.start(f.run)
		}
	})
	return fs.pick(fs.nextIndex.Add(1))
}

// Close ends the goroutines. All queues must have ended. It may be called again, also while it
// runs.
func (fs *Flushers) Close() {
	fs.once.Do(func() {})
	fs.closed.Do(func() {
		for _, f := range fs.flushers {
			f.close()
		}
	})
}

// pick returns a flusher. Numbers that follow each other give different ones.
func (fs *Flushers) pick(n uint32) *flusher { return fs.flushers[n%uint32(len(fs.flushers))] }

// flusher is one goroutine and the list of the queues that wait for it.
type flusher struct {
	// ready is the queue that was added last, whose field next is the one before; or sleeping.
	ready atomic.Pointer[Queue]
	wake  chan struct{}
	stop  Queue     // dead; the goroutine ends after a turn with it
	_     [6]uint64 // other cores write the fields above, and the goroutine those below

	// Only the goroutine uses the following fields.
	sys          func(fd uintptr, p []byte) (int, error)
	call         func(fd uintptr) bool // writeOnce, bound once to save an allocation
	turn         *Queue                // the first queue of this turn; linked by next
	ended        bool
	out          releases
	b            batch
	joined       []byte
	joinedFrames []*Frame // the frames whose bytes are in joined
	p            []byte   // the argument of writeOnce
	n            int
	err          error
	took         int // bytes of the batch that the socket has accepted
}

// sleeping is the list of a flusher whose goroutine waits for wake.
var sleeping = new(Queue)

// add puts queues, linked by next from the last to the first, on the list. Only the goroutine that
// moved them to Ready may call it, once.
func (f *flusher) add(first, last *Queue) {
	for {
		before := f.ready.Load()
		first.next = before
		if before == sleeping {
			first.next = nil
		}
		if f.ready.CompareAndSwap(before, last) {
			if before == sleeping {
				f.wake <- struct{}{}
			}
			return
		}
	}
}

// close ends the goroutine. It must be called once, like add.
func (f *flusher) close() { f.add(&f.stop, &f.stop) }

func (f *flusher) run() {
	for !f.ended {
		f.take()
		f.serve()
	}
}

// serve writes to each queue that was on the list.
func (f *flusher) serve() {
	for q := f.turn; q != nil; {
		next := q.next
		q.next = nil
		f.flush(q)
		f.ended = f.ended || q == &f.stop
		q = next
	}
	f.turn = nil
	clear(f.joinedFrames)
	f.joinedFrames = f.joinedFrames[:0]
	f.out.end()
}

// longTurn is the number of queues from which a turn is expensive enough to let other goroutines
// push first: frames pushed later would cost as many system calls again.
const longTurn = 64

// take waits until there are queues on the list, and takes all of them.
func (f *flusher) take() {
	list := f.ready.Swap(nil)
	if list == nil {
		if f.ready.CompareAndSwap(nil, sleeping) {
			<-f.wake
		}
		list = f.ready.Swap(nil)
	}
	first, last, n := inOrder(list)
	if n >= longTurn {
		runtime.Gosched()
		last.next, _, _ = inOrder(f.ready.Swap(nil))
	}
	f.turn = first
}

// inOrder turns a list around, so that the queue that was added first is the first. It returns the
// first and the last queue, and their number.
func inOrder(list *Queue) (first, last *Queue, n int) {
	for q := list; q != nil; n++ {
		before := q.next
		q.next = first
		first, q = q, before
	}
	return first, list, n
}

// flush writes the next batch of q. The batch is bounded, so that a long queue does not delay the
// others.
func (f *flusher) flush(q *Queue) {
	if !q.startFlush(&f.b) {
		return
	}
	if q.flushes == 1 { // the first write is the welcome; many connections get no other
		KeepLittle(q.raw)
	}
	q.flushes = min(q.flushes+1, 2)
	written := 0
	done, cut, err := f.writeBatch(q.raw)
	q.moved.Add(uint64(f.took))
	switch {
	case err != nil:
		done = len(f.b.frames)
		q.finishWrite(&f.b, err)
	case done < len(f.b.frames):
		rest := f.b
		rest.frames, rest.cut = slices.Clone(f.b.frames[done:]), cut
		q.switchToOwner(rest)
	default:
		written, f.b.took = f.b.data, f.took
		q.endFlush(&f.b)
	}
	f.out.add(q.cfg.Totals, f.b.frames[:done], written)
	clear(f.b.frames)
}

// writeBatch writes the frames. It returns how many the socket has accepted completely, and how
// many bytes of the next one.
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

// join is like Join, but reuses the previous result: members of a room mostly have the same frames
// queued.
func (f *flusher) join(frames []*Frame, i int) (p []byte, next int) {
	if slices.Equal(f.joinedFrames, frames[i:]) {
		return f.joined, len(frames)
	}
	p, next = Join(frames, i, batchBytes, &f.joined)
	if f.joinedFrames = f.joinedFrames[:0]; next > i+1 {
		f.joinedFrames = append(f.joinedFrames, frames[i:next]...)
	}
	return p, next
}

// try writes p without blocking and returns the number of bytes that the socket has accepted.
func (f *flusher) try(raw syscall.RawConn, p []byte) (int, error) {
	f.p, f.n, f.err = p, 0, nil
	err := raw.Write(f.call)
	f.p = nil
	if err == nil {
		err = f.err
	}
	return f.n, err
}

// writeOnce is the callback of RawConn.Write. It always reports true: waiting for one socket would
// delay all other queues.
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
			return true // a short write means that the buffer is full
		}
	}
	return true
}
