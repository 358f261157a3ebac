package client

import (
	"cmp"
	"math/rand/v2"
	"time"

	"github.com/realtime-go/realtime"
)

const (
	// The wait before an attempt is random, below a limit that doubles from the first to the
	// last with each attempt, and begins anew after a connection that was steady.
	firstLimit = time.Second
	lastLimit  = 30 * time.Second
	steady     = 10 * time.Second
	// maxWait is the longest wait that a server can ask for.
	maxWait = time.Hour
)

// pace says when to come back. The zero value is ready.
type pace struct {
	limit   time.Duration // of the next wait; 0 means the first
	known   bool          // there has been a connection, so the client is one that the server takes
	renewed bool          // a new token was tried since there was a steady connection
	// spread is over how much time the server wants its clients to come back that it loses
	// all at once.
	spread time.Duration
	// renewable says that there can be a new token.
	renewable bool
}

// lasted is told for how long a connection was open.
func (p *pace) lasted(d time.Duration) {
	if d >= steady {
		p.limit, p.renewed = 0, false
	}
}

// after returns how long to wait after an attempt or a connection has ended like this, and
// whether to come back at all.
func (p *pace) after(end error) (wait time.Duration, comeBack bool) {
	if end == errBehind { // the client's own doing, as often as its consumer has taken a lot
		return 0, true
	}
	base := cmp.Or(p.limit, firstLimit)
	limit, asked := base, time.Duration(0)
	switch e := end.(type) {
	case *DialError:
		if !e.ComeBack() && !(p.known && e.foreign()) {
			return 0, false
		}
		asked = e.RetryAfter
	case *realtime.CloseError:
		switch {
		case e.Code == realtime.CloseExpired && p.renewable && !p.renewed:
			p.renewed = true
			return 0, true
		case !e.Code.ComeBack():
			return 0, false
		case e.Code == realtime.CloseAway, e.Code == realtime.CloseLost, e.Code == realtime.CloseRestart:
			limit = max(limit, p.spread)
		}
	}
	p.limit = min(2*base, lastLimit)
	return asked + rand.N(limit), true
}
