package realtime

import (
	"net/netip"
	"sync"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/sendqueue"
)

// gate lets connections in: up to a limit, up to a limit for each address, none while memory is
// short, and none once it is shut.
type gate struct {
	limit    int // connections in all, 0 is without limit
	visitors *visitors
	budget   *sendqueue.Budget
	work     *sync.WaitGroup // counts everyone who is in

	mu   sync.Mutex
	shut bool
	in   int // connections that are open or about to be
}

// enter keeps a place for a connection, which leave gives back.
func (g *gate) enter(from netip.Addr) error {
	if err := g.squeeze(); err != nil {
		return err
	}
	if !g.visitors.enter(from) {
		g.release()
		return errPlaceFull
	}
	return nil
}

func (g *gate) squeeze() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.shut:
		return broker.ErrClosed
	case g.limit > 0 && g.in >= g.limit:
		return errTooManyConns
	case g.budget.Over():
		return errOverloaded
	}
	g.in++
	g.work.Add(1)
	return nil
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
