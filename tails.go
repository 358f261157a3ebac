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
	changed chan struct{} // closed and replaced when n falls, if anybody waits
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
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// wait waits until at most spare are left, or ctx ends.
func (t *tails) wait(ctx context.Context, spare int) error {
	for {
		t.mu.Lock()
		if t.n <= spare {
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
