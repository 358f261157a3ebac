package client

import (
	"cmp"
	"math/rand/v2"
	"time"

	"github.com/realtime-go/realtime"
)

const (
	// The wait before an attempt is random, with an upper limit. The limit doubles with each
	// attempt, from firstLimit to lastLimit, and is reset after a connection that lasted for
	// stableAfter.
	firstLimit  = time.Second
	lastLimit   = 30 * time.Second
	stableAfter = 10 * time.Second
	// maxWait is the longest wait that a server can ask for.
	maxWait = time.Hour
)

// backoff determines the wait before the next attempt. The zero value is ready for use.
type backoff struct {
	limit           time.Duration // upper limit of the next wait; 0 means firstLimit
	connectedBefore bool          // there has been a connection, so the server accepts this client
	renewed         bool          // a new token was tried since the last stable connection
	// spread is the period over which the server's clients reconnect if it loses all of them at
	// once.
	spread time.Duration
	// renewable is true if the client can get a new token.
	renewable bool
}

// noteDuration notes for how long a connection was open.
func (b *backoff) noteDuration(d time.Duration) {
	if d >= stableAfter {
		b.limit, b.renewed = 0, false
	}
}

// next returns how long to wait after an attempt or a connection has ended with this error, and
// whether to reconnect at all.
func (b *backoff) next(end error) (wait time.Duration, retry bool) {
	if end == errSlowConsumer { // rare: the consumer has read half a queue before each
		return 0, true
	}
	base := cmp.Or(b.limit, firstLimit)
	limit, asked := base, time.Duration(0)
	switch e := end.(type) {
	case *DialError:
		if !e.ComeBack() && !(b.connectedBefore && e.maybeProxy()) {
			return 0, false
		}
		asked = e.RetryAfter
	case *realtime.CloseError:
		switch {
		case e.Code == realtime.CloseExpired && b.renewable && !b.renewed:
			b.renewed = true
			return 0, true
		case !e.Code.ComeBack():
			return 0, false
		case e.Code == realtime.CloseAway, e.Code == realtime.CloseLost, e.Code == realtime.CloseRestart:
			limit = max(limit, b.spread)
		}
	}
	b.limit = min(2*base, lastLimit)
	return asked + rand.N(limit), true
}
