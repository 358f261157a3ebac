package main

import (
	"context"
	"sync"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/bench/serve"
)

// permissions are what each user may do. The zero value is ready.
type permissions struct {
	mu      sync.RWMutex
	granted map[permission]bool
}

// permission is to send messages to a room, or to any user if room is empty.
type permission struct{ user, room string }

// grant permits a client what it needs.
func (p *permissions) grant(c serve.Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.granted == nil {
		p.granted = make(map[permission]bool)
	}
	p.granted[permission{c.User, c.Room}] = true
	if c.Direct {
		p.granted[permission{user: c.User}] = true
	}
}

// authorize is an Options.Authorize.
func (p *permissions) authorize(_ context.Context, c *realtime.Conn, a realtime.Action) error {
	if a.Kind != realtime.ActionSend || a.Target.All {
		return realtime.ErrForbidden
	}
	wanted := permission{user: c.UserID()}
	if len(a.Target.Rooms) > 0 {
		wanted.room = a.Target.Rooms[0] // a client sends to one room
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if !p.granted[wanted] {
		return realtime.ErrForbidden
	}
	return nil
}
