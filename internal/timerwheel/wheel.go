// Package timerwheel provides a timer wheel, which runs many timers in one goroutine.
package timerwheel

import (
	"sync"
	"time"
)

const (
	// tick is the resolution of a wheel. Its timers watch peers that are silent for seconds, so a
	// tenth of a second is sufficient.
	tick  = 100 * time.Millisecond
	slots = 512 // a power of two
)

// Wheel runs many timers in one goroutine. The cost of setting, moving and stopping a timer does
// not depend on their number. The goroutine sleeps until the next tick that has timers. A Wheel is
// safe for concurrent use.
//
// It is the hashed wheel of Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1987),
// scheme 6: a timer is stored in the slot of its tick modulo the number of slots, until its round
// comes.
type Wheel struct {
	start func(func())

	mu      sync.Mutex
	slots   [slots]Timer // heads of circular lists
	n       int
	epoch   time.Time
	done    int64 // last tick that was run
	next    int64 // tick at which the goroutine wakes up
	running bool
	closed  bool
	wake    chan struct{}
}

// Timer is a timer of a wheel. A zero Timer with Fire set is ready for Set.
type Timer struct {
	// Fire is called in the goroutine of the wheel, without locks held. It must not block. It may
	// set its timer again.
	Fire func()

	next, prev *Timer
	due        int64
}

// New returns a wheel. It calls start to run the goroutine when the first timer is set. The caller
// must end it with Close.
func New(start func(func())) *Wheel {
	return &Wheel{start: start, epoch: time.Now(), wake: make(chan struct{}, 1)}
}

// longest bounds the duration of a timer to 146 years, so that no sum of times overflows.
const longest = time.Duration(1 << 62)

// Set makes t fire once, d from now or up to a tick later. It replaces an earlier setting of t.
// After Close it does nothing.
func (w *Wheel) Set(t *Timer, d time.Duration) {
	// The clock is read without the lock, for which all cores wait.
	due := int64((time.Since(w.epoch) + min(d, longest) + tick - 1) / tick)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.unlink(t)
	t.due = max(due, w.done+1)
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
		w.wakeUp()
	}
}

// Stop prevents t from firing, unless it is already firing.
func (w *Wheel) Stop(t *Timer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unlink(t)
}

// Close stops all timers and ends the goroutine. It does not wait for it.
func (w *Wheel) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.wakeUp()
}

func (w *Wheel) wakeUp() {
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

// advance runs the ticks that have passed. It returns the functions to call or, if there are none,
// how long to sleep. ok is false after Close.
func (w *Wheel) advance() (fire []func(), wait time.Duration, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, 0, false
	}
	now := int64(time.Since(w.epoch) / tick)
	from := max(w.done, now-slots) + 1 // one round passes every slot
	for at := from; at <= now; at++ {
		head := &w.slots[at&(slots-1)]
		if head.next == nil {
			continue
		}
		for t := head.next; t != head; {
			next := t.next
			if t.due <= now {
				w.unlink(t)
				fire = append(fire, t.Fire)
			}
			t = next
		}
	}
	w.done = now
	w.next = w.nextDue(now)
	return fire, time.Until(w.epoch.Add(time.Duration(w.next) * tick)), true
}

// nextDue returns the next tick whose slot is not empty, for whichever round, or the end of the
// round.
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
