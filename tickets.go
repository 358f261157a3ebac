package realtime

import (
	"crypto/rand"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// ticketTime is for how long a ticket is good.
	ticketTime = 30 * time.Second
	// maxTickets bounds how many are out, and maxUserTickets how many of one user. Those for
	// anonymous connections may be half of all.
	maxTickets          = 100_000
	maxUserTickets      = 100
	maxAnonymousTickets = maxTickets / 2
)

// Tickets are passwords that open one connection, within 30 seconds. A page cannot send a
// header with its WebSocket. So it asks for a ticket first, by an ordinary request that the
// application authenticates as it does all others, and connects with ?ticket=…: what the
// logs of proxies keep of that is worth nothing any more. Each attempt to connect takes one.
//
// The zero value is ready. Tickets are this process's own. All methods are safe for
// concurrent use and do not block.
type Tickets struct {
	mu     sync.Mutex
	out    map[string]*ticket
	byUser map[string]int // how many are out
	order  []*ticket      // in the order of their ends, with those that are used up
}

type ticket struct {
	name  string
	id    Identity
	until time.Time
}

// Issue returns a ticket for a connection of id, to be used in a URL as it is. It returns
// ErrOverloaded while 100,000 are out, or 100 of the same user, or 50,000 for anonymous
// connections.
func (ts *Tickets) Issue(id Identity) (string, error) {
	t := &ticket{name: rand.Text(), id: id}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	now := time.Now()
	ts.expire(now)
	limit := maxUserTickets
	if id.UserID == "" {
		limit = maxAnonymousTickets
	}
	if len(ts.out) >= maxTickets || ts.byUser[id.UserID] >= limit {
		return "", ErrOverloaded
	}
	if ts.out == nil {
		ts.out, ts.byUser = make(map[string]*ticket), make(map[string]int)
	}
	t.until = now.Add(ticketTime)
	ts.out[t.name], ts.order = t, append(ts.order, t)
	ts.byUser[id.UserID]++
	return t.name, nil
}

// expire forgets a few of the oldest tickets, if they are over or used up: more than one Issue
// adds, so that none has to forget many. ts.mu is held.
func (ts *Tickets) expire(now time.Time) {
	for range 4 {
		if len(ts.order) == 0 {
			ts.order = nil // and the memory that it had
			return
		}
		t := ts.order[0]
		if ts.out[t.name] != nil && now.Before(t.until) {
			return
		}
		ts.order[0] = nil
		ts.order = ts.order[1:]
		ts.take(t)
	}
}

// take makes a ticket one that is used up. ts.mu is held.
func (ts *Tickets) take(t *ticket) {
	if ts.out[t.name] == nil {
		return
	}
	if delete(ts.out, t.name); len(ts.out) == 0 {
		ts.out, ts.byUser = nil, nil // maps keep the memory that they had
	} else if ts.byUser[t.id.UserID]--; ts.byUser[t.id.UserID] == 0 {
		delete(ts.byUser, t.id.UserID)
	}
	t.id = Identity{} // what is used up may wait for those before it
}

// Authenticate is an Options.Authenticate that takes the ticket in the query. It returns
// ErrUnauthenticated without a good one.
func (ts *Tickets) Authenticate(r *http.Request) (Identity, error) {
	name := r.URL.Query().Get("ticket")
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := ts.out[name]
	if t == nil {
		return Identity{}, ErrUnauthenticated
	}
	id := t.id
	if ts.take(t); !time.Now().Before(t.until) {
		return Identity{}, ErrUnauthenticated
	}
	return id, nil
}

// BearerToken returns the token that a request carries, or an empty string: that of the
// header "Authorization: Bearer …", which programs send, or of a subprotocol "bearer.…",
// which a page can ask for beside "realtime.v1":
//
//	new WebSocket(url, ["realtime.v1", "bearer." + token])
//
// A token may have the characters of a JWT or of base64url there. It is not checked.
func BearerToken(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	for _, offers := range r.Header.Values("Sec-WebSocket-Protocol") {
		for offer := range strings.SplitSeq(offers, ",") {
			if token, ok := strings.CutPrefix(strings.TrimSpace(offer), "bearer."); ok {
				return token
			}
		}
	}
	return ""
}
