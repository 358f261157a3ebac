package realtime

import (
	"net/netip"
	"sync"

	"github.com/realtime-go/realtime/internal/sendqueue"
)

// gate lets connections in: up to a limit, up to limits for each user and each address,
// nobody who is denied, none while memory is short, and none once it is shut.
type gate struct {
	limit    int // connections in all, 0 is without limit
	users    *users
	visitors *visitors
	denials  *denials
	budget   *sendqueue.Budget
	work     *sync.WaitGroup // counts everyone who is in

	mu   sync.Mutex
	shut bool
	in   int // connections that are open or about to be
}

// entrant is who wants in.
type entrant struct {
	user  string
	place netip.Addr
	began decision // to let him in
}

// enter keeps a place for a connection, which leave or cancel gives back. It waits for
// the user's lock, and nobody else waits for it meanwhile.
func (g *gate) enter(e entrant) error {
	if err := g.denials.check(e.began, ban{user: e.user}); err != nil {
		return err
	}
	if err := g.squeeze(); err != nil {
		return err
	}
	if !g.visitors.enter(e.place) {
		g.release()
		return errPlaceFull
	}
	if !g.users.reserve(e.user) {
		g.leave(e.place)
		return errUserFull
	}
	return nil
}

func (g *gate) squeeze() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.shut:
		return ErrClosed
	case g.limit > 0 && g.in >= g.limit:
		return ErrTooManyConns
	case g.budget.Over():
		return ErrOverloaded
	}
	g.in++
	g.work.Add(1)
	return nil
}

// cancel gives back the place of a connection that never came to be.
func (g *gate) cancel(e entrant) {
	g.users.unreserve(e.user)
	g.leave(e.place)
}

// leave gives back the place of a connection that has been cleaned up after.
func (g *gate) leave(from netip.Addr) {
	g.visitors.leave(from)
	g.release()
}

func (g *gate) release() {
	g.mu.Lock()
	g.in--
	g.mu.Unlock()
	g.work.Done()
}

// close shuts the gate for good.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
}

func (g *gate) isShut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut
}
