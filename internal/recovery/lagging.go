package recovery

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Lagging is the set of the subscriptions of one connection that lag, and of the unions that it was
// given meanwhile. The state of each is in its Subscription. The zero value is ready. It is safe
// for concurrent use.
type Lagging struct {
	mu      sync.Mutex
	subs    []*Subscription
	running bool // a goroutine serves them

	busy atomic.Bool // there are subscriptions
	seen seen
}

// Busy reports whether a subscription lags.
func (l *Lagging) Busy() bool { return l.busy.Load() }

// Bytes returns the memory of what is remembered.
func (l *Lagging) Bytes() int64 { return l.seen.bytes() }

// FirstTime reports whether a union is new to the connection. If it is, the caller gives it and
// calls Fetcher.Settle; until then other callers wait.
func (l *Lagging) FirstTime(key uint64) bool { return l.seen.begin(key) }

// add adds a subscription, and reports whether the caller must begin to serve them.
func (l *Lagging) add(s *Subscription) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Contains(l.subs, s) {
		l.subs = append(l.subs, s)
		l.busy.Store(true)
	}
	begin := !l.running
	l.running = true
	return begin
}

// next returns the subscription whose turn it is, or nil.
func (l *Lagging) next() *Subscription {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.subs) == 0 {
		l.running = false
		return nil
	}
	s := l.subs[0]
	l.subs = append(l.subs[1:], s)
	return s
}

func (l *Lagging) remove(s *Subscription) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.subs = slices.DeleteFunc(l.subs, func(other *Subscription) bool { return other == s })
	l.busy.Store(len(l.subs) > 0)
}
