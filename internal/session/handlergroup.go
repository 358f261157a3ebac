package session

import (
	"context"
	"sync"
)

// HandlerGroup counts the goroutines that run code of the application after their connections may
// have ended. The zero value is ready. All methods are safe for concurrent use.
type HandlerGroup struct {
	mu      sync.Mutex
	n       int
	waiting int           // of these, how many are in Wait
	changed chan struct{} // closed and replaced when n or waiting changes
}

// Go calls f in its own goroutine and counts it until it returns.
func (h *HandlerGroup) Go(f func()) {
	h.mu.Lock()
	h.n++
	h.mu.Unlock()
	go func() {
		defer h.end()
		f()
	}()
}

func (h *HandlerGroup) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n--
	h.notify()
}

// notify wakes the callers of Wait. h.mu is held.
func (h *HandlerGroup) notify() {
	if h.changed != nil {
		close(h.changed)
		h.changed = nil
	}
}

// Wait waits until no goroutine is left or ctx ends, and returns the cause of ctx then. inside says
// that the caller is one of the goroutines: it does not wait for itself, nor for others that wait.
func (h *HandlerGroup) Wait(ctx context.Context, inside bool) error {
	if inside {
		h.mu.Lock()
		h.waiting++
		h.notify()
		h.mu.Unlock()
		defer func() {
			h.mu.Lock()
			h.waiting--
			h.mu.Unlock()
		}()
	}
	for {
		h.mu.Lock()
		if h.n == 0 || inside && h.n <= h.waiting {
			h.mu.Unlock()
			return nil
		}
		if h.changed == nil {
			h.changed = make(chan struct{})
		}
		changed := h.changed
		h.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
