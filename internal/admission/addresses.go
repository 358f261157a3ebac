package admission

import (
	"net/netip"
	"sync"
	"time"

	"github.com/realtime-go/realtime/internal/defaults"
	"github.com/realtime-go/realtime/internal/ratelimit"
	"github.com/realtime-go/realtime/internal/shrink"
)

// Addresses bounds the rate of handshakes, of all addresses and of each, and the number of
// connections from each. All methods are safe for concurrent use.
type Addresses struct {
	all  ratelimit.Rate // handshakes of all addresses
	each ratelimit.Rate // handshakes of one address
	max  int            // connections of one address; zero is no limit
	// An address of a private network most often belongs to a proxy or an office. Its rate and
	// its number of connections are bounded only if the application has set the bound.
	privateRate, privateMax bool

	began time.Time

	mu      sync.Mutex
	used    ratelimit.Bucket // of all
	known   map[netip.Addr]*address
	purgeAt int // the size of known at which purge looks for addresses to forget
}

type address struct {
	used  ratelimit.Bucket // of each
	conns int
}

// minKnown is how many addresses are remembered before any is forgotten.
const minKnown = 1 << 10

// Limits are the limits of Addresses. Zero is the default, a negative number is no limit.
type Limits struct {
	Rate       int // handshakes of all addresses a second: 2000
	RatePerIP  int // handshakes of one address a second: 50
	ConnsPerIP int // connections of one address: 1000
}

// NewAddresses returns an Addresses with these limits.
func NewAddresses(l Limits) *Addresses {
	a := &Addresses{began: time.Now(), known: make(map[netip.Addr]*address), purgeAt: minKnown}
	a.privateRate, a.privateMax = l.RatePerIP > 0, l.ConnsPerIP > 0
	defaults.Set(&l.Rate, 2000)
	defaults.Set(&l.RatePerIP, 50)
	defaults.Set(&l.ConnsPerIP, 1000)
	a.all, a.each = ratelimit.PerSecond(l.Rate), ratelimit.PerSecond(l.RatePerIP)
	a.max = l.ConnsPerIP
	return a
}

// AddrKey returns the key under which the limits count addr: an IPv4 address itself, and the first
// address of its /64 for an IPv6 address, because a provider gives a /64 to each customer. The zero
// address, which has no limits, is its own key.
func AddrKey(addr netip.Addr) netip.Addr {
	if addr = addr.WithZone(""); addr.Is4() || addr.IsLoopback() {
		return addr
	}
	p, _ := addr.Prefix(64) // the zero value for the zero address
	return p.Addr()
}

// Span returns how long the rate of all addresses needs for n handshakes.
func (a *Addresses) Span(n int) time.Duration {
	if a.all.PerSecond == 0 {
		return 0
	}
	return time.Duration(float64(n) / a.all.PerSecond * float64(time.Second))
}

func private(addr netip.Addr) bool {
	return addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast()
}

// Attempt counts a handshake from an address, as AddrKey has returned it, and returns zero, or
// returns how long to wait until one is allowed. A refused handshake is not counted. An address
// over its own rate uses up nothing of the rate of all.
func (a *Addresses) Attempt(from netip.Addr) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Since(a.began)
	if from.IsValid() && (a.privateRate || !private(from)) {
		if wait := a.find(from, now).used.TryTake(a.each, now); wait > 0 {
			return wait
		}
	}
	return a.used.TryTake(a.all, now)
}

// add counts a connection, unless its address has too many.
func (a *Addresses) add(from netip.Addr) bool {
	if !from.IsValid() {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	one := a.find(from, time.Since(a.began))
	if a.max > 0 && one.conns >= a.max && (a.privateMax || !private(from)) {
		return false
	}
	one.conns++
	return true
}

func (a *Addresses) remove(from netip.Addr) {
	if !from.IsValid() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.known[from].conns--
}

// find returns the entry of an address. a.mu is held.
func (a *Addresses) find(from netip.Addr, now time.Duration) *address {
	one := a.known[from]
	if one == nil {
		a.purge(now)
		one = &address{}
		a.known[from] = one
	}
	return one
}

// purge forgets the addresses without connections whose bucket is full again. It walks the map
// only after its size has doubled, so the cost for each new address is constant. a.mu is held.
func (a *Addresses) purge(now time.Duration) {
	if len(a.known) < a.purgeAt {
		return
	}
	a.known = shrink.Filter(a.known, func(one *address) bool {
		return one.conns > 0 || !one.used.Full(a.each, now)
	})
	a.purgeAt = max(minKnown, 2*len(a.known))
}
