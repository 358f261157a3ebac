package admission

import (
	"net/netip"
	"sync"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/sendqueue"
)

// Capacity bounds how many connections are open: in all, from each address, and while memory
// is short. All methods are safe for concurrent use.
type Capacity struct {
	limit     int // connections in all; zero is no limit
	addresses *Addresses
	budget    *sendqueue.Budget
	open      *sync.WaitGroup

	mu     sync.Mutex
	closed bool
	conns  int // reserved
}

// NewCapacity returns a Capacity for limit connections, zero for any number. Each reserved
// place counts in open until it is released.
func NewCapacity(limit int, a *Addresses, b *sendqueue.Budget, open *sync.WaitGroup) *Capacity {
	return &Capacity{limit: limit, addresses: a, budget: b, open: open}
}

// Reserve takes a place for a connection from an address, until Release. It returns
// broker.ErrClosed after Close, ErrTooManyConns, ErrAddressFull or ErrOverloaded.
func (c *Capacity) Reserve(from netip.Addr) error {
	if err := c.reserve(); err != nil {
		return err
	}
	if !c.addresses.add(from) {
		c.release()
		return ErrAddressFull
	}
	return nil
}

func (c *Capacity) reserve() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return broker.ErrClosed
	case c.limit > 0 && c.conns >= c.limit:
		return ErrTooManyConns
	case c.budget.Over():
		return ErrOverloaded
	}
	c.conns++
	c.open.Add(1)
	return nil
}

// Release gives the place of a connection from an address back.
func (c *Capacity) Release(from netip.Addr) {
	c.addresses.remove(from)
	c.release()
}

func (c *Capacity) release() {
	c.mu.Lock()
	c.conns--
	c.mu.Unlock()
	c.open.Done()
}

// Close makes every later Reserve fail.
func (c *Capacity) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
}

// Closed reports whether Close was called.
func (c *Capacity) Closed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}
