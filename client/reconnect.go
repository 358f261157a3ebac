package client

import (
	"errors"
	"sync"
	"time"
)

// restartInterval is the time for which an attempt that [Client.Reconnect] has begun is not restarted.
const restartInterval = time.Second

// errRestart ends an attempt that is replaced by another one at once.
var errRestart = errors.New("realtime: attempt restarted")

// reconnectAction implements Reconnect, whose effect depends on the state of the session.
type reconnectAction struct {
	mu          sync.Mutex
	run         func()     // must not block; nil before the start and after the end
	kind        actionKind // of do
	lastAttempt time.Time  // when Reconnect last began an attempt
}

// actionKind is the effect of Reconnect.
type actionKind uint8

const (
	actionProbe   actionKind = iota // sends a ping over the connection
	actionEndWait                   // ends a wait
	actionRestart                   // replaces an attempt by another one
)

// set is called when the session changes its state.
func (n *reconnectAction) set(run func(), kind actionKind) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.run, n.kind = run, kind
}

// allowed reports whether Reconnect has an effect, and notes an attempt that it begins. An attempt that
// has just been begun by Reconnect is not replaced: otherwise a Token function that calls Reconnect
// would never finish.
func (n *reconnectAction) allowed() bool {
	switch {
	case n.kind == actionProbe:
		return true
	case n.kind == actionRestart && !n.lastAttempt.IsZero() && time.Since(n.lastAttempt) < restartInterval:
		return false
	}
	n.lastAttempt = time.Now()
	return true
}

func (n *reconnectAction) trigger() {
	n.mu.Lock()
	run := n.run
	if run == nil || !n.allowed() {
		run = func() {}
	}
	n.mu.Unlock()
	run()
}
