package realtime

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/realtime-go/realtime/internal/inbound"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/timerwheel"
	"github.com/realtime-go/realtime/internal/transport"
	"github.com/realtime-go/realtime/internal/wire"
)

const (
	// handlerPatience is how long a handler may keep its connection from being read.
	handlerPatience = 5 * time.Second
	// messagePatience is how long a message may take from its first byte to its last, and perKiB by
	// how much each KiB of it that has come puts off that end: never to more than
	// messagePatience from then on. What has come and cannot be seen yet adds as much.
	messagePatience = 10 * time.Second
	perKiB          = time.Second
	// quietTime is after how much silence a connection gives up the goroutine that reads
	// it. One that comes back sooner is cheaper to leave alone.
	quietTime = 10 * time.Second
)

// halfMessage is about what a connection takes while a small message is half there: a goroutine, a
// buffer and a decoder.
const halfMessage = 16 << 10

// reader reads one connection and runs what its messages ask for, in order.
//
// The right to read is a token. Usually one goroutine reads a message, runs it and
// reads on. When running takes long, yield gives the token to a second goroutine,
// which answers pings, sees the end and keeps a bounded backlog; the first one runs
// the backlog and ends when it has caught up. So at most one goroutine reads and at
// most one runs, and a handler that waits for its own client does not wait for ever.
//
// While nothing comes in for a while, nobody has the token: the transport keeps it, and
// wakes the reader with it when there is something to read.
type reader struct {
	*readers
	c *Conn

	used allowance
	late int // bytes that came in after the end

	watch   timerwheel.Timer // looks after a handler, a message or a silence that takes long
	armed   atomic.Bool
	started atomic.Int64 // when the handler began, as c.now(); 0 if none runs
	began   atomic.Int64 // when the message began, as c.now(), put off by what came; 0 if none is read
	credit  int          // bytes that may put that off; of the goroutine that reads
	parked  atomic.Bool  // the transport has the token

	mu      sync.Mutex
	changed sync.Cond
	busy    bool // somebody runs messages
	yielded bool // and somebody else reads
	backlog backlog
	loops   int // goroutines
	inUser  int // of those, how many run code of the application
	closed  bool
}

// readers is what the readers of a Manager have in common.
type readers struct {
	counters *metrics.Counters
	wheel    *timerwheel.Wheel
	run      func(*Conn, wire.Command)
	limits   limits
	most     int // bytes of a message
}

// init makes a zero reader ready.
func (r *reader) init(rs *readers, c *Conn) {
	r.readers, r.c = rs, c
	r.changed.L = &r.mu
	r.watch.Fire = r.look
}

// alive, waiting, ping, pong and wake are the ears of the transport.
func (r *reader) Alive(n int) {
	r.c.alive()
	r.c.sent.Add(uint64(n))
	r.putOff(n)
	if !r.c.ended() {
		return
	}
	if r.late += n; r.late > transport.MaxAfterEnd { // he does not mean to answer
		<-r.c.link.Done()
	}
}

// putOff gives a message of which n bytes have come more time, but not more than one of the largest
// would take: frames that come inside of it could go on for ever.
func (r *reader) putOff(n int) {
	began := r.began.Load()
	if began == 0 {
		return
	}
	n = min(n, r.credit)
	r.credit -= n
	later := time.Duration(began) + perKiB/1024*time.Duration(n)
	r.began.Store(int64(min(later, r.c.now())))
}

// holds counts the memory of a message that is being read.
func (r *reader) Holds(bytes int) {
	if n := int64(bytes) - r.c.held.Load(); n != 0 {
		r.c.held.Add(n)
		r.counters.Queues.Budget.Hold(n)
	}
}

// keeps counts the memory of the backlog, which has changed. r.mu is held.
func (r *reader) keeps() {
	n := int64(r.backlog.bytes)
	r.counters.Queues.Budget.Hold(n - r.c.ahead.Swap(n))
}

// waiting keeps the time since a message or frame has been half there.
func (r *reader) Waiting(inside bool) {
	if !inside {
		r.began.Store(0)
		return
	}
	if r.c.held.Load() == 0 {
		r.Holds(halfMessage)
	}
	if r.began.CompareAndSwap(0, int64(r.c.now())) {
		r.credit = r.most
		r.arm(handlerPatience)
	}
}

// wake takes the token back.
func (r *reader) Wake() {
	r.parked.Store(false)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.loops++
		go r.loop(false)
	}
}

// ping takes the leave to answer a ping.
func (r *reader) Ping() bool {
	if r.used.ping(&r.limits, r.c.now()) {
		return true
	}
	r.c.expel(CauseRate, ClosePolicy, "too many pings")
	return false
}

// pong counts like a ping, unless it was asked for.
func (r *reader) Pong(payload string) {
	if !r.c.pings.answer(payload) {
		r.Ping()
	}
}

// loop holds the token: it reads until the connection ends or the token is given away.
// With stay false it gives it away as soon as it would wait, until a message has come.
func (r *reader) loop(stay bool) {
	var buf []byte
	for r.next(&buf, &stay) {
	}
	r.leave()
}

// leave accounts for a loop that has ended.
func (r *reader) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loops--
	r.changed.Broadcast()
}

// next reads one message and deals with it. It reports false when the token is gone.
func (r *reader) next(buf *[]byte, stay *bool) bool {
	r.c.link.WaitReplies()
	r.c.reading.Store(int64(r.c.now()))
	op, data, err := r.c.transport.Next((*buf)[:0], *stay)
	if errors.Is(err, inbound.ErrQuiet) {
		*stay = true // if it cannot be parked
		return !r.park()
	}
	r.c.reading.Store(0)
	r.began.Store(0)
	if err != nil {
		r.hear(err.(*CloseError))
		return false
	}
	*stay = true
	*buf = data
	if cap(data) > 2*transport.FirstBuffer { // one large message must not cost memory for ever
		*buf = nil
	}
	cmd, ok := r.accept(op, data)
	if !ok || !r.offer(cmd) {
		return true
	}
	return r.work(cmd)
}

// park gives the token to the transport, if that takes it.
func (r *reader) park() bool {
	r.parked.Store(true)
	if r.c.transport.Park() {
		return true
	}
	r.parked.Store(false)
	return false
}

// hear deals with how the connection ended.
func (r *reader) hear(why *CloseError) {
	r.c.finish(why, transport.CloseGrace)
	if why.Cause != CauseLost {
		r.c.link.HeardAll()
		r.c.transport.Discard()
	}
	r.c.link.ReadEnded()
}

// accept checks and decodes a message, and waits as long as its rate demands. It reports whether
// there is something to run. The answer to a call of the server's is given at once, as a handler
// may wait for it, and does not count: the server has asked for it.
func (r *reader) accept(op sendqueue.Op, data []byte) (wire.Command, bool) {
	r.c.received.Add(1)
	r.counters.Add(metrics.Received, 1)
	if op == sendqueue.OpText && !utf8.Valid(data) {
		r.c.expel(CauseProtocol, CloseText, "text is not UTF-8")
		return wire.Command{}, false
	}
	cmd := r.c.proto.Decode(op, data)
	if cmd.Kind == wire.CmdAnswer && r.c.calls.answer(cmd.Req) {
		return wire.Command{}, false
	}
	if cmd.Kind == wire.CmdNone || cmd.Kind == wire.CmdAnswer {
		r.counters.Add(metrics.Ignored, 1)
		r.throttle(len(data))
		return wire.Command{}, false
	}
	return cmd, r.throttle(len(data))
}

// throttle waits until the client may have sent what it has sent.
func (r *reader) throttle(n int) bool {
	wait, tooLong := r.used.message(&r.limits, n, &r.c.bill, r.c.now())
	if wait == 0 {
		return true
	}
	r.counters.Add(metrics.Throttled, 1)
	if tooLong {
		r.c.expel(CauseRate, CloseRate, "sent too much")
		return false
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		if !r.c.transport.Ahead() { // it goes on when it is answered, and that is slow enough
			r.used.rested()
		}
		return true
	case <-r.c.ctx.Done():
		return false
	}
}

// offer makes the caller the one who runs cmd, or leaves cmd to the one who does. It
// waits while the backlog is full. Once the connection has ended nothing is run, and
// reading only lets the goodbyes through.
func (r *reader) offer(cmd wire.Command) (mine bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.full(cmd) {
		r.deafen(true) // an answer that the handler waits for would never come
		for r.full(cmd) {
			r.changed.Wait()
		}
		r.deafen(false)
	}
	if r.closed || r.c.ended() {
		return false
	}
	if r.busy {
		r.backlog.add(cmd)
		r.keeps()
		return false
	}
	r.busy = true
	r.inUser++
	return true
}

// full reports whether there is no room for cmd, and somebody will make some. r.mu is held.
func (r *reader) full(cmd wire.Command) bool {
	return r.busy && !r.c.ended() && !r.closed && !r.backlog.fits(cmd)
}

func (r *reader) deafen(yes bool) {
	r.c.pings.deafen(yes)
	r.c.calls.deafen(yes)
}

// work runs cmd and what has gathered meanwhile. It reports whether the token is
// still the caller's.
func (r *reader) work(cmd wire.Command) (kept bool) {
	done := false
	defer func() {
		if !done { // the application has ended the goroutine: runtime.Goexit
			r.abandon()
		}
	}()
	for more := true; more; cmd, more, kept = r.following() {
		r.c.link.WaitReplies() // of a backlog each may have a long answer
		r.started.Store(int64(r.c.now()))
		r.arm(handlerPatience)
		r.run(r.c, cmd)
		r.started.Store(0)
	}
	done = true
	return kept
}

// abandon accounts for a goroutine that ends in the middle of a handler.
func (r *reader) abandon() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.backlog, r.busy = backlog{}, false
	r.keeps()
	r.inUser--
	r.loops--
	r.changed.Broadcast()
}

// following takes the next message of the backlog, or ends being busy and says whether the
// one who was has the token.
func (r *reader) following() (cmd wire.Command, more, kept bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.changed.Broadcast()
	if r.c.ended() {
		r.backlog = backlog{}
	}
	cmd, more = r.backlog.next()
	if r.keeps(); !more {
		kept = !r.yielded && !r.closed
		r.busy, r.yielded = false, false
		r.inUser--
	}
	return cmd, more, kept
}

// hold makes whatever comes in wait for open. The caller runs code of the application until
// then.
func (r *reader) hold() {
	r.enter()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy, r.yielded = true, true
}

// open runs what has come in since hold.
func (r *reader) open() {
	cmd, more, _ := r.following()
	if !more {
		r.leave()
		return
	}
	go func() {
		r.work(cmd)
		r.leave()
	}()
}

// yield lets another goroutine read, if a handler runs in the one that does.
func (r *reader) yield() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy && !r.yielded && !r.closed {
		r.yielded = true
		r.loops++
		go r.loop(true)
	}
}

// start begins to read, as soon as there is something to read.
func (r *reader) start() {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return
	}
	r.loops++ // nothing of the transport is freed meanwhile
	r.mu.Unlock()
	r.c.reading.Store(int64(r.c.now()))
	if r.park() {
		r.leave()
	} else {
		go r.loop(false)
	}
}

// enter and exit bracket code of the application that runs outside of loop.
func (r *reader) enter() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loops++
	r.inUser++
}

func (r *reader) exit() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.loops--
	r.inUser--
	r.changed.Broadcast()
}

// handling reports whether code of the application runs.
func (r *reader) handling() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.inUser > 0
}

// arm makes sure that look comes by, in d or before. It costs one load while it will
// come by anyway.
func (r *reader) arm(d time.Duration) {
	if !r.armed.Load() && !r.armed.Swap(true) {
		r.wheel.Set(&r.watch, d)
	}
}

// look is called by the wheel while the connection is busy.
func (r *reader) look() {
	r.armed.Store(false)
	if r.c.ended() {
		return
	}
	now := r.c.now()
	if reading := time.Duration(r.c.reading.Load()); reading > 0 && !r.parked.Load() {
		left := quietTime - (now - reading)
		if left > 0 || r.c.transport.Interrupt() {
			r.arm(max(left, handlerPatience))
		}
	}
	if began := time.Duration(r.began.Load()); began > 0 {
		left := messagePatience + perKiB/1024*time.Duration(r.c.transport.Unseen()) - (now - began)
		if left <= 0 {
			r.c.expel(CauseProtocol, ClosePolicy, "message took too long")
			return
		}
		r.arm(min(left, handlerPatience))
	}
	if started := time.Duration(r.started.Load()); started > 0 {
		left := handlerPatience - (now - started)
		if left <= 0 {
			r.yield()
			left = handlerPatience
		}
		r.arm(left)
	}
}

// close waits until no goroutine of the reader is outside the application's code,
// and makes sure that none reads again. The connection has ended.
func (r *reader) close() {
	r.wheel.Stop(&r.watch)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed.Broadcast()
	for r.loops > r.inUser {
		r.changed.Wait()
	}
	r.closed, r.backlog = true, backlog{} // nothing of it is run
	r.keeps()
}

// wait waits until the last handler has returned.
func (r *reader) wait() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.loops > 0 {
		r.changed.Wait()
	}
}
