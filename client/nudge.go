package client

import (
	"errors"
	"sync"
	"time"
)

// restartTime is the time for which an attempt that [Client.Reconnect] has begun is not restarted.
const restartTime = time.Second

// errAnew ends an attempt that is replaced by another one at once.
var errAnew = errors.New("realtime: attempt restarted")

// nudge implements Reconnect, whose effect depends on the state of the session.
type nudge struct {
	mu   sync.Mutex
	do   func()    // must not block; nil before the start and after the end
	what effect    // of do
	last time.Time // when Reconnect last began an attempt
}

// effect is the effect of Reconnect.
type effect uint8

const (
	doubts  effect = iota // sends a ping over the connection
	hurries               // ends a wait
	renews                // replaces an attempt by another one
)

// set is called when the session changes its state.
func (n *nudge) set(do func(), what effect) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.do, n.what = do, what
}

// may reports whether Reconnect has an effect, and notes an attempt that it begins. An attempt that
// has just been begun by Reconnect is not replaced: otherwise a Token function that calls Reconnect
// would never finish.
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
