// Package timerwheel runs the timers of all connections in one goroutine.
package timerwheel

import (
	"sync"
	"time"
)

const (
	// tick is the resolution of a wheel. Its timers watch over peers that are quiet
	// for seconds, so a tenth of a second is fine enough.
	tick  = 100 * time.Millisecond
	slots = 512 // a power of two
)

// Wheel runs the timers of all connections in one goroutine: setting, moving and
// stopping one costs the same whatever their number. It sleeps while none is set.
//
// It is the hashed wheel of Varghese and Lauck, "Hashed and Hierarchical Timing
// Wheels" (1987), scheme 6: a timer hangs in the slot of its tick modulo the number
// of slots, and waits there for its round.
type Wheel struct {
	start func(func())

	mu      sync.Mutex
	slots   [slots]Timer // heads of rings
	n       int
	epoch   time.Time
	done    int64 // the last tick that was run
	next    int64 // the tick that the goroutine sleeps for
	running bool
	closed  bool
	wake    chan struct{}
}

// Timer is one timer of a wheel. Its zero value with Fire set is ready for Set.
type Timer struct {
	// Fire is called without any lock held, in the goroutine of the wheel, and must
	// not block. It may set its timer again.
	Fire func()

	next, prev *Timer
	due        int64
}

// New returns a wheel whose goroutine is started by start, with the first timer.
func New(start func(func())) *Wheel {
	return &Wheel{start: start, epoch: time.Now(), wake: make(chan struct{}, 1)}
}

// longest is how long a timer takes at most: 146 years, so that no sum of times wraps.
const longest = time.Duration(1 << 62)

// Set makes t fire once, d from now or up to a tick later, and forgets what it was
// set to before. After Close it does nothing.
func (w *Wheel) Set(t *Timer, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.unlink(t)
	t.due = max(int64((time.Since(w.epoch)+min(d, longest)+tick-1)/tick), w.done+1)
	head := &w.slots[t.due&(slots-1)]
	if head.next == nil {
		head.next, head.prev = head, head
	}
	t.prev, t.next = head.prev, head
	head.prev.next, head.prev = t, t
	w.n++
	if !w.running {
		w.running = true
		w.start(w.run)
	} else if t.due < w.next {
		w.nudge()
	}
}

// Stop makes sure that t does not fire any more, unless it is firing now.
func (w *Wheel) Stop(t *Timer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unlink(t)
}

// Close stops all timers and ends the goroutine.
func (w *Wheel) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.nudge()
}

func (w *Wheel) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *Wheel) unlink(t *Timer) {
	if t.next != nil {
		t.prev.next, t.next.prev = t.next, t.prev
		t.prev, t.next = nil, nil
		w.n--
	}
}

func (w *Wheel) run() {
	sleep := time.NewTimer(0)
	defer sleep.Stop()
	for {
		fire, wait, ok := w.advance()
		if !ok {
			return
		}
		for _, f := range fire {
			f()
		}
		if len(fire) > 0 {
			continue
		}
		sleep.Reset(wait)
		select {
		case <-sleep.C:
		case <-w.wake:
		}
	}
}

// advance runs the ticks that have passed. It returns what to fire or, if that is
// nothing, how long nothing will be; and false after Close.
func (w *Wheel) advance() (fire []func(), wait time.Duration, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, 0, false
	}
	now := int64(time.Since(w.epoch) / tick)
	from := max(w.done, now-slots) + 1 // one turn passes every slot
	for at := from; at <= now; at++ {
		head := &w.slots[at&(slots-1)]
		if head.next == nil {
			continue
		}
		for t := head.next; t != head; {
			following := t.next
			if t.due <= now {
				w.unlink(t)
				fire = append(fire, t.Fire)
			}
			t = following
		}
	}
	w.done = now
	w.next = w.nextDue(now)
	return fire, time.Until(w.epoch.Add(time.Duration(w.next) * tick)), true
}

// nextDue returns the next tick in whose slot anything hangs, or the end of the
// turn, whatever round that is for.
func (w *Wheel) nextDue(now int64) int64 {
	if w.n == 0 {
		return now + int64(time.Hour/tick)
	}
	for at := now + 1; at < now+slots; at++ {
		if head := &w.slots[at&(slots-1)]; head.next != nil && head.next != head {
			return at
		}
	}
	return now + slots
}
