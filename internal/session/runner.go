package session

import (
	"sync"
	"time"

	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/wire"
)

// runner runs the commands of a session one at a time, and decides which goroutine may read.
type runner struct {
	s *Session

	mu         sync.Mutex
	changed    *sync.Cond // nil until a goroutine waits for a change
	busy       bool       // a goroutine runs commands
	handedOver bool       // and another one reads
	backlog    backlog
	loops      int // goroutines that read or run commands
	inHandler  int // of these, how many run code of the application
	closed     bool
}

// await waits for a change. r.mu is held.
func (r *runner) await() {
	if r.changed == nil {
		r.changed = sync.NewCond(&r.mu)
	}
	r.changed.Wait()
}

// notify reports a change. r.mu is held.
func (r *runner) notify() {
	if r.changed != nil {
		r.changed.Broadcast()
	}
}

// Start begins to read.
func (s *Session) Start() {
	r := &s.runner
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return
	}
	r.loops++ // the transport is not released meanwhile
	r.mu.Unlock()
	if s.reader.park() {
		r.leave()
	} else {
		go s.reader.loop(false)
	}
}

// read starts a goroutine that reads.
func (r *runner) read(stay bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.loops++
		go r.s.reader.loop(stay)
	}
}

// leave accounts for a goroutine that has ended.
func (r *runner) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loops--
	r.notify()
}

// offer makes the caller the goroutine that runs cmd, or leaves cmd to the one that runs commands
// already. It waits while the backlog is full, but drops an ephemeral message then, which has no
// value later. After the end no command is run, and reading goes on only until the peer's close
// frame.
func (r *runner) offer(cmd *wire.Command) (mine bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.full(cmd) {
		if cmd.Ephemeral() {
			r.s.counters.Add(metrics.Ignored, 1)
			return false
		}
		r.rejectReplies(true) // the handler may wait for one that would never be read
		for r.full(cmd) {
			r.await()
		}
		r.rejectReplies(false)
		cmd.At = time.Now()
	}
	if r.closed || r.s.Ended() {
		return false
	}
	if r.busy {
		r.backlog.add(*cmd)
		r.countBacklog()
		return false
	}
	r.busy = true
	r.inHandler++
	return true
}

// full reports whether there is no space for cmd, and a goroutine will make some. r.mu is held.
func (r *runner) full(cmd *wire.Command) bool {
	return r.busy && !r.s.Ended() && !r.closed && !r.backlog.fits(cmd)
}

func (r *runner) rejectReplies(yes bool) {
	r.s.pings.reject(yes)
	r.s.calls.reject(yes)
}

// countBacklog counts the memory of the backlog, which has changed. r.mu is held.
func (r *runner) countBacklog() {
	if n := int64(r.backlog.bytes); n != r.s.backlog.Load() {
		r.s.pool.Counters.Queues.Budget.Hold(n - r.s.backlog.Swap(n))
	}
}

// work runs cmd and the backlog. It reports whether the caller still has the right to read.
func (r *runner) work(cmd wire.Command) (mayRead bool) {
	done := false
	defer func() {
		if !done { // the application has ended the goroutine by runtime.Goexit
			r.abandon()
		}
	}()
	for more := true; more; {
		r.s.watch.handlerBegan(r.s.since(cmd.At))
		r.s.handler.Command(cmd)
		r.s.watch.handlerEnded()
		if cmd, more, mayRead = r.following(); more {
			r.s.queue.WaitReplies() // each command of a backlog may have a long answer
			cmd.At = time.Now()
		}
	}
	done = true
	return mayRead
}

// abandon accounts for a goroutine that ends in the middle of a handler.
func (r *runner) abandon() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.backlog, r.busy = backlog{}, false
	r.countBacklog()
	r.inHandler--
	r.loops--
	r.notify()
}

// following takes the next command of the backlog. If there is none it ends being busy, and reports
// whether the caller has the right to read.
func (r *runner) following() (cmd wire.Command, more, mayRead bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.notify()
	if r.s.Ended() {
		r.backlog = backlog{}
	}
	cmd, more = r.backlog.next()
	if r.countBacklog(); more {
		return cmd, true, false
	}
	mayRead = !r.handedOver && !r.closed
	r.busy, r.handedOver = false, false
	r.inHandler--
	return cmd, false, mayRead
}

// Pause makes commands wait for Resume. The caller runs code of the application until then.
func (s *Session) Pause() {
	r := &s.runner
	r.enter()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy, r.handedOver = true, true
}

// Resume runs the commands that have arrived since Pause.
func (s *Session) Resume() {
	r := &s.runner
	cmd, more, _ := r.following()
	if !more {
		r.leave()
		return
	}
	cmd.At = time.Now()
	go func() {
		r.work(cmd)
		r.leave()
	}()
}

// handOver lets another goroutine read, if a handler runs in the one with the right to read.
func (r *runner) handOver() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy && !r.handedOver && !r.closed {
		r.handedOver = true
		r.loops++
		go r.s.reader.loop(true)
	}
}

// Do calls f, which is code of the application. Close does not wait for it, and Wait does.
func (s *Session) Do(f func()) {
	s.runner.enter()
	defer s.runner.exit()
	f()
}

func (r *runner) enter() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loops++
	r.inHandler++
}

func (r *runner) exit() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loops--
	r.inHandler--
	r.notify()
}

// InHandler reports whether code of the application runs.
func (s *Session) InHandler() bool {
	s.runner.mu.Lock()
	defer s.runner.mu.Unlock()
	return s.runner.inHandler > 0
}

// close waits until no goroutine is outside of the code of the application, and prevents that one
// reads again. The session has ended.
func (r *runner) close() {
	r.s.watch.stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notify()
	for r.loops > r.inHandler {
		r.await()
	}
	r.closed, r.backlog = true, backlog{}
	r.countBacklog()
}

// Wait waits until the last handler has returned.
func (s *Session) Wait() {
	r := &s.runner
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.loops > 0 {
		r.await()
	}
}
