package client

import (
	"errors"
	"sync"
	"time"
)

// restartTime is for how long an attempt that [Client.Reconnect] has begun is left alone.
const restartTime = time.Second

// errAnew ends an attempt in whose place another one begins at once.
var errAnew = errors.New("realtime: begun anew")

// nudge knows what Reconnect does at each moment of a session.
type nudge struct {
	mu   sync.Mutex
	do   func()    // must not block; nil before the beginning and after the end
	rude bool      // do ends an attempt
	last time.Time // of a Reconnect that began an attempt
}

// set is called by the session when it goes on to something else.
func (n *nudge) set(do func(), rude bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.do, n.rude = do, rude
}

// begins notes that Reconnect begins an attempt. It reports false for one that would end an attempt
// that it has just begun: a Token function that reconnects would otherwise never be done.
func (n *nudge) begins() bool {
	if n.rude && !n.last.IsZero() && time.Since(n.last) < restartTime {
		return false
	}
	n.last = time.Now()
	return true
}

func (n *nudge) now() {
	n.mu.Lock()
	do := n.do
	if do == nil || !n.begins() {
		do = func() {}
	}
	n.mu.Unlock()
	do()
}
