package admission

import (
	"net/netip"
	"sync"
	"time"

	"github.com/realtime-go/realtime/internal/defaults"
	"github.com/realtime-go/realtime/internal/ratelimit"
	"github.com/realtime-go/realtime/internal/shrink"
)

// visitors bounds how often connections are opened, and how many each address has. An
// address is an IPv4 address or the /64 of an IPv6 address, which is what one customer of a
// provider gets.
type visitors struct {
	all  ratelimit.Rate // handshakes of everybody
	each ratelimit.Rate // handshakes of one address
	max  int            // connections of one address; 0 is without limit
	// Addresses of private networks are most often a proxy's or the office's. Their rate and
	// their number are bounded only if the application has said by how much.
	privateRate, privateMax bool

	began time.Time

	mu      sync.Mutex
	used    ratelimit.Bucket // of all
	seen    map[netip.Addr]*visitor
	purgeAt int // how many may be seen before those are forgotten that need not be known
}

type visitor struct {
	used  ratelimit.Bucket // of each
	conns int
}

// minVisitors are remembered before any is forgotten.
const minVisitors = 1 << 10

// visitorLimits are options; zero is the default, and negative is without limit.
type VisitorLimits struct {
	Rate, RatePerIP int // handshakes in a second
	ConnsPerIP      int
}

func NewVisitors(l VisitorLimits) *visitors {
	v := &visitors{began: time.Now(), seen: make(map[netip.Addr]*visitor), purgeAt: minVisitors}
	v.privateRate, v.privateMax = l.RatePerIP > 0, l.ConnsPerIP > 0
	defaults.Set(&l.Rate, 2000)
	defaults.Set(&l.RatePerIP, 50)
	defaults.Set(&l.ConnsPerIP, 1000)
	v.all, v.each = ratelimit.PerSecond(l.Rate), ratelimit.PerSecond(l.RatePerIP)
	v.max = l.ConnsPerIP
	return v
}

// place is where a request comes from, as far as limits go: the first address of a /64, or
// an IPv4 address. The zero address has none.
func Place(a netip.Addr) netip.Addr {
	if a = a.WithZone(""); a.Is4() || a.IsLoopback() {
		return a
	}
	p, _ := a.Prefix(64) // the zero value for the zero address
	return p.Addr()
}

// span is how long it takes to let n in.
func (v *visitors) Span(n int) time.Duration {
	if v.all.PerSecond == 0 {
		return 0
	}
	return time.Duration(float64(n) / v.all.PerSecond * float64(time.Second))
}

func private(a netip.Addr) bool {
	return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast()
}

// knock counts a handshake, and returns 0 or how long to wait until one is welcome. One
// that is not welcome is not counted, and one address that knocks too often does not use
// up what is for all.
func (v *visitors) Knock(from netip.Addr) time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Since(v.began)
	if from.IsValid() && (v.privateRate || !private(from)) {
		if wait := v.visitor(from, now).used.TryTake(v.each, now); wait > 0 {
			return wait
		}
	}
	return v.used.TryTake(v.all, now)
}

// enter counts a connection, unless there are too many.
func (v *visitors) enter(from netip.Addr) bool {
	if !from.IsValid() {
		return true
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	one := v.visitor(from, time.Since(v.began))
	if v.max > 0 && one.conns >= v.max && (v.privateMax || !private(from)) {
		return false
	}
	one.conns++
	return true
}

func (v *visitors) leave(from netip.Addr) {
	if !from.IsValid() {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.seen[from].conns--
}

// visitor returns what is known of an address. v.mu is held.
func (v *visitors) visitor(from netip.Addr, now time.Duration) *visitor {
	one := v.seen[from]
	if one == nil {
		v.purge(now)
		one = &visitor{}
		v.seen[from] = one
	}
	return one
}

// purge forgets the addresses that have no connection and have not knocked lately, once
// there are many. It looks at all of them no more often than their number has doubled.
func (v *visitors) purge(now time.Duration) {
	if len(v.seen) < v.purgeAt {
		return
	}
	v.seen = shrink.Filter(v.seen, func(one *visitor) bool {
		return one.conns > 0 || !one.used.Full(v.each, now)
	})
	v.purgeAt = max(minVisitors, 2*len(v.seen))
}
