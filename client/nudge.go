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
	what effect    // of do
	last time.Time // of a Reconnect that began an attempt
}

// effect is what Reconnect does.
type effect uint8

const (
	doubts  effect = iota // asks a connection for a sign of life
	hurries               // ends a wait
	renews                // ends an attempt, in whose place another one begins
)

// set is called by the session when it goes on to something else.
func (n *nudge) set(do func(), what effect) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.do, n.what = do, what
}

// may notes that Reconnect begins an attempt. It reports false for one that would end an attempt
// that it has just begun: a Token function that reconnects would otherwise never be done.
func (n *nudge) may() bool {
	switch {
	case n.what == doubts:
		return true
	case n.what == renews && !n.last.IsZero() && time.Since(n.last) < restartTime:
		return false
	}
	n.last = time.Now()
	return true
}

func (n *nudge) now() {
	n.mu.Lock()
	do := n.do
	if do == nil || !n.may() {
		do = func() {}
	}
	n.mu.Unlock()
	do()
}
