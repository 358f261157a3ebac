package realtime

import (
	"context"
	"sync"
)

// tails counts the connections that have ended but whose handlers still run. The zero
// value is ready.
type tails struct {
	mu      sync.Mutex
	n       int
	inside  int           // of those, how many wait themselves
	changed chan struct{} // closed and replaced when there is news for who waits
}

// run calls f in its own goroutine and counts it until it returns.
func (t *tails) run(f func()) {
	t.mu.Lock()
	t.n++
	t.mu.Unlock()
	go func() {
		defer t.end()
		f()
	}()
}

func (t *tails) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n--
	t.news()
}

// news wakes who waits. t.mu is held.
func (t *tails) news() {
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// wait waits until none is left, or ctx ends. If the caller is the handler of one of
// them, he does not wait for himself, nor for others who wait like him.
func (t *tails) wait(ctx context.Context, inside bool) error {
	if inside {
		t.mu.Lock()
		t.inside++
		t.news()
		t.mu.Unlock()
		defer func() {
			t.mu.Lock()
			t.inside--
			t.mu.Unlock()
		}()
	}
	for {
		t.mu.Lock()
		if t.n == 0 || inside && t.n <= t.inside {
			t.mu.Unlock()
			return nil
		}
		if t.changed == nil {
			t.changed = make(chan struct{})
		}
		changed := t.changed
		t.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
