package realtime

import (
	"sync"

	"github.com/realtime-go/realtime/internal/sendqueue"
)

// audience are the connections that have had a message which may be meant for them more than once.
type audience struct {
	mu    sync.Mutex // of whoever delivers a part of the message
	links map[*sendqueue.Queue]struct{}
}

// has reports whether the connection has had it.
func (a *audience) has(l *sendqueue.Queue) bool {
	_, had := a.links[l]
	return had
}

// retract takes back admit: the connection has not had it.
func (a *audience) retract(l *sendqueue.Queue) { delete(a.links, l) }

// admit reports whether it is new to the connection, which is to get it now.
func (a *audience) admit(l *sendqueue.Queue) bool {
	if _, twice := a.links[l]; twice {
		return false
	}
	if a.links == nil {
		a.links = make(map[*sendqueue.Queue]struct{})
	}
	a.links[l] = struct{}{}
	return true
}
