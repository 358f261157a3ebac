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
	// maxTickets bounds how many are out.
	maxTickets = 100_000
)

// Tickets are passwords that open one connection, within 30 seconds. A page cannot send a
// header with its WebSocket. So it asks for a ticket first, by an ordinary request that the
// application authenticates as it does all others, and connects with ?ticket=…: what the
// logs of proxies keep of that is worth nothing any more. Each attempt to connect takes one.
//
// The zero value is ready. Tickets are this process's own. All methods are safe for
// concurrent use and do not block.
type Tickets struct {
	mu  sync.Mutex
	out map[string]ticket
}

type ticket struct {
	id    Identity
	until time.Time
}

// Issue returns a ticket for a connection of id, to be used in a URL as it is. It returns
// ErrOverloaded while 100,000 are out.
func (ts *Tickets) Issue(id Identity) (string, error) {
	name := rand.Text()
	now := time.Now()
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if len(ts.out) >= maxTickets {
		ts.out = only(ts.out, func(t ticket) bool { return now.Before(t.until) })
	}
	if len(ts.out) >= maxTickets {
		return "", ErrOverloaded
	}
	if ts.out == nil {
		ts.out = make(map[string]ticket)
	}
	ts.out[name] = ticket{id, now.Add(ticketTime)}
	return name, nil
}

// Authenticate is an Options.Authenticate that takes the ticket in the query. It returns
// ErrUnauthenticated without a good one.
func (ts *Tickets) Authenticate(r *http.Request) (Identity, error) {
	name := r.URL.Query().Get("ticket")
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t, ok := ts.out[name]
	delete(ts.out, name)
	if !ok || !time.Now().Before(t.until) {
		return Identity{}, ErrUnauthenticated
	}
	return t.id, nil
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
