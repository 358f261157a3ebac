package admission

import (
	"net/netip"
	"sync"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/sendqueue"
)

// gate lets connections in: up to a limit, up to a limit for each address, none while memory is
// short, and none once it is shut.
type Gate struct {
	Limit    int // connections in all, 0 is without limit
	Visitors *visitors
	Budget   *sendqueue.Budget
	Work     *sync.WaitGroup // counts everyone who is in

	mu   sync.Mutex
	shut bool
	in   int // connections that are open or about to be
}

// enter keeps a place for a connection, which leave gives back.
func (g *Gate) Enter(from netip.Addr) error {
	if err := g.squeeze(); err != nil {
		return err
	}
	if !g.Visitors.enter(from) {
		g.release()
		return ErrPlaceFull
	}
	return nil
}

func (g *Gate) squeeze() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.shut:
		return broker.ErrClosed
	case g.Limit > 0 && g.in >= g.Limit:
		return ErrTooManyConns
	case g.Budget.Over():
		return ErrOverloaded
	}
	g.in++
	g.Work.Add(1)
	return nil
}

// leave gives back the place of a connection that has been cleaned up after.
func (g *Gate) Leave(from netip.Addr) {
	g.Visitors.leave(from)
	g.release()
}

func (g *Gate) release() {
	g.mu.Lock()
	g.in--
	g.mu.Unlock()
	g.Work.Done()
}

// close shuts the gate for good.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
}

func (g *Gate) IsShut() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut
}
