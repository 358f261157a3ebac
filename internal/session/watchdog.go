package session

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/realtime-go/realtime/internal/disconnect"
	"github.com/realtime-go/realtime/internal/timerwheel"
)

const (
	// handlerPatience is how long a handler may prevent its connection from being read.
	handlerPatience = 5 * time.Second
	// messagePatience is how long a message may take from its first byte to its last. Each KiB that
	// arrives extends that by perKiB, but never to more than messagePatience from then on. A TLS
	// record is invisible until it is complete, so the bytes of Transport.Unseen are granted in
	// advance.
	messagePatience = 10 * time.Second
	perKiB          = time.Second
	// quietTime is after how much silence a connection gives up the goroutine that reads it. It
	// is cheaper to keep the goroutine of a connection that sends again before that.
	quietTime = 10 * time.Second
	// lookInterval is how often a message or a silence is looked at. A handler may begin in between,
	// so it is not more than handlerPatience.
	lookInterval = 5 * time.Second

	never time.Duration = math.MaxInt64
)

// watchdog hands over reading from a handler that runs too long, ends a session whose message takes
// too long, and parks a silent one. Its times are on the clock of the session.
type watchdog struct {
	s       *Session
	timer   timerwheel.Timer
	armed   atomic.Bool
	handler atomic.Int64 // when the handler began; 0 if none runs
	message atomic.Int64 // when the message began, moved later by what arrived; 0 if none is half read
	credit  int          // bytes that may still extend the message; of the goroutine that reads
	parked  atomic.Bool  // the transport has the right to read
}

func (w *watchdog) init(s *Session) {
	w.s = s
	w.timer.Fire = w.look
}

func (w *watchdog) stop() { w.s.pool.Wheel.Stop(&w.timer) }

func (w *watchdog) handlerBegan(now time.Duration) {
	w.handler.Store(int64(now))
	w.arm(handlerPatience)
}

func (w *watchdog) handlerEnded() { w.handler.Store(0) }

// messageBegan notes that a message or a control frame is half read. It does nothing if that was
// noted before.
func (w *watchdog) messageBegan(now time.Duration) {
	if w.message.CompareAndSwap(0, int64(now)) {
		w.credit = w.s.pool.MaxMessage
		w.arm(lookInterval)
	}
}

func (w *watchdog) messageEnded() { w.message.Store(0) }

// arrived gives a message more time for n bytes, but not more than the largest message would get:
// a client can send control frames inside a message without end.
func (w *watchdog) arrived(n int) {
	began := w.message.Load()
	if began == 0 {
		return
	}
	n = min(n, w.credit)
	w.credit -= n
	later := time.Duration(began) + perKiB/1024*time.Duration(n)
	w.message.Store(int64(min(later, w.s.now())))
}

// arm makes look run in d or sooner. It costs one load while look is going to run anyway.
func (w *watchdog) arm(d time.Duration) {
	if !w.armed.Load() && !w.armed.Swap(true) {
		w.s.pool.Wheel.Set(&w.timer, d)
	}
}

// look runs in the goroutine of the wheel, until there is nothing to watch.
func (w *watchdog) look() {
	w.armed.Store(false)
	s := w.s
	if s.Ended() {
		return
	}
	now, next := s.now(), never
	if reading := time.Duration(s.reading.Load()); reading > 0 && !w.parked.Load() {
		if now-reading < quietTime || s.transport.Interrupt() {
			next = lookInterval
		}
	}
	if began := time.Duration(w.message.Load()); began > 0 {
		left := messagePatience + perKiB/1024*time.Duration(s.transport.Unseen()) - (now - began)
		if left <= 0 {
			s.Expel(disconnect.CauseProtocol, disconnect.ClosePolicy, "message took too long")
			return
		}
		next = min(next, left, lookInterval)
	}
	if began := time.Duration(w.handler.Load()); began > 0 {
		left := handlerPatience - (now - began)
		if left <= 0 {
			s.runner.handOver()
			left = handlerPatience
		}
		next = min(next, left)
	}
	if next < never {
		w.arm(next)
	}
}
