package client

import (
	"errors"
	"sync"
	"time"
)

// restartInterval is the time for which an attempt that [Client.Reconnect] has begun is not
// restarted.
const restartInterval = time.Second

// errRestart ends an attempt that is replaced by another one at once.
var errRestart = errors.New("realtime: attempt restarted")

// reconnectAction is what Reconnect does. It depends on the state of the session.
type reconnectAction struct {
	mu   sync.Mutex
	run  func()     // must not block; nil before the start and after the end
	kind actionKind // of run
	last time.Time  // when Reconnect last began an attempt
}

// actionKind is the kind of a reconnectAction.
type actionKind uint8

const (
	actionProbe   actionKind = iota // sends a ping over the connection
	actionEndWait                   // ends a wait
	actionRestart                   // replaces an attempt by another one
)

// set is called when the session changes its state.
func (r *reconnectAction) set(run func(), kind actionKind) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.run, r.kind = run, kind
}

// allowed reports whether Reconnect has an effect, and notes an attempt that it begins. An attempt
// that has just been begun by Reconnect is not replaced: otherwise a Token function that calls
// Reconnect would never finish.
func (r *reconnectAction) allowed() bool {
	switch {
	case r.kind == actionProbe:
		return true
	case r.kind == actionRestart && !r.last.IsZero() && time.Since(r.last) < restartInterval:
		return false
	}
	r.last = time.Now()
	return true
}

func (r *reconnectAction) trigger() {
	r.mu.Lock()
	run := r.run
	if run == nil || !r.allowed() {
		run = func() {}
	}
	r.mu.Unlock()
	run()
}
