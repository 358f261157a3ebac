package serve

import "sync"

// Index finds rooms and users by name, for servers whose library does not. R is a room, created by
// Make; U is a connection.
type Index[R, U any] struct {
	Make func(name string) R

	mu    sync.RWMutex
	rooms map[string]R
	users map[string]U
}

// Room returns the room with this name. It creates the room if necessary.
func (x *Index[R, U]) Room(name string) R {
	x.mu.Lock()
	defer x.mu.Unlock()
	r, ok := x.rooms[name]
	if !ok {
		if x.rooms == nil {
			x.rooms = make(map[string]R)
		}
		r = x.Make(name)
		x.rooms[name] = r
	}
	return r
}

// Add adds a user. It ignores an empty name.
func (x *Index[R, U]) Add(name string, u U) {
	if name == "" {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.users == nil {
		x.users = make(map[string]U)
	}
	x.users[name] = u
}

// Remove removes a user.
func (x *Index[R, U]) Remove(name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.users, name)
}

// User returns the user with this name.
func (x *Index[R, U]) User(name string) (U, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	u, ok := x.users[name]
	return u, ok
}
