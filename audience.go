package realtime

import (
	"sync"

	"github.com/realtime-go/realtime/internal/engine"
)

// audience is who has had a message that may be meant for him more than once.
type audience struct {
	mu    sync.Mutex // of whoever delivers a part of the message
	links map[*engine.Link]struct{}
}

// admit reports whether it is new to him.
func (a *audience) admit(l *engine.Link) bool {
	if _, twice := a.links[l]; twice {
		return false
	}
	if a.links == nil {
		a.links = make(map[*engine.Link]struct{})
	}
	a.links[l] = struct{}{}
	return true
}
