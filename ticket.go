package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"time"

	"github.com/realtime-go/realtime/internal/cluster"
	"github.com/realtime-go/realtime/internal/tickets"
)

// IssueTicket returns a ticket: a password that opens one connection with identity id within 30
// seconds, at any process that shares the broker. A page cannot send an Authorization header with
// its WebSocket. Instead it requests a ticket with an ordinary request, which the application
// authenticates like any other, and connects with ?ticket=…. Proxies may log the URL, but a ticket
// in it is worthless then: each attempt to connect uses up its ticket.
//
// The ticket has only letters and digits. As the connection may open in another process, id.Data
// must be nil or a json.RawMessage. IssueTicket returns ErrOverloaded while there are 100,000 unused
// tickets of this process, or 100 of the same user, or 50,000 for anonymous connections. It returns
// ErrInvalidMessage if id.Data has another type, ErrUnauthenticated if id has expired,
// ErrInvalidName and ErrTooLarge. It does not block and is safe for concurrent use.
func (m *Manager) IssueTicket(id Identity) (string, error) {
	passed, err := id.passed()
	if err != nil {
		return "", err
	}
	ticket, err := m.tickets.Issue(m.node.ID.String(), id.UserID, passed)
	if errors.Is(err, tickets.ErrFull) {
		return "", fmt.Errorf("%w: too many unused tickets", ErrOverloaded)
	}
	return ticket, err
}

// passedIdentity is an identity as it is passed on between nodes.
type passedIdentity struct {
	User    string          `json:"user,omitempty"`
	Expires time.Time       `json:"expires,omitzero"`
	Device  string          `json:"device,omitempty"`
	Info    json.RawMessage `json:"info,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"`
}

// passed returns the identity as it is passed on. It does not refer to what the caller has given.
func (id Identity) passed() (p passedIdentity, err error) {
	if err := id.validate(); err != nil {
		return p, err
	}
	data, ok := id.Data.(json.RawMessage)
	switch {
	case id.Data != nil && !ok:
		return p, fmt.Errorf("%w: Data of a ticket is a %T", ErrInvalidMessage, id.Data)
	case data != nil && !json.Valid(data):
		return p, fmt.Errorf("%w: Data of a ticket is no JSON", ErrInvalidMessage)
	}
	p = passedIdentity{User: id.UserID, Expires: id.ExpiresAt, Device: id.Device}
	if last := time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC); p.Expires.After(last) {
		p.Expires = last // JSON has no later time
	}
	p.Info, p.Data = append(p.Info, id.Info...), append(p.Data, data...)
	return p, nil
}

func (p *passedIdentity) identity() Identity {
	id := Identity{UserID: p.User, ExpiresAt: p.Expires, Device: p.Device, Info: p.Info}
	if p.Data != nil {
		id.Data = p.Data
	}
	return id
}

// ticketOf returns the ticket in a request. ok reports whether there is one, valid or not.
func ticketOf(r *http.Request) (ticket string, ok bool) {
	q := r.URL.Query()
	return q.Get("ticket"), q.Has("ticket")
}

// ticketForm is the form of all tickets: the id of a node, and 26 letters and digits.
var ticketForm = regexp.MustCompile(`^[0-9a-f]{12}[A-Z2-7]{26}$`)

// errTicket does not say more, so that guesses teach nothing.
var errTicket = fmt.Errorf("%w: the ticket is unknown, used or expired", ErrUnauthenticated)

// redeem uses up a ticket, and returns its identity. It returns ErrUnauthenticated if the ticket is
// not valid, and ErrUnavailable if the node that has issued it does not answer.
func (m *Manager) redeem(ctx context.Context, ticket string) (Identity, error) {
	at, ok := cluster.CutID(ticket)
	if !ok || !ticketForm.MatchString(ticket) { // otherwise it would be sent to another node
		return Identity{}, errTicket
	}
	if at == m.node.ID {
		p, ok := m.tickets.Take(ticket)
		if !ok {
			return Identity{}, errTicket
		}
		return p.identity(), nil
	}
	if m.node.State(at) == cluster.Lost { // the next ticket is that of another node
		return Identity{}, ErrUnavailable
	}
	body, err := m.node.Ask(ctx, at, askTicket, &ask{Ticket: ticket})
	_, refused := errors.AsType[*cluster.RefusedError](err)
	switch {
	case errors.Is(err, cluster.ErrNoNode) && !m.node.Alone() && time.Since(m.started) < tickets.Time:
		return Identity{}, ErrUnavailable // that node may have ended before this one began
	case refused, errors.Is(err, cluster.ErrNoNode):
		return Identity{}, errTicket
	case err != nil:
		return Identity{}, err
	}
	var p passedIdentity
	if err := json.Unmarshal(body, &p); err != nil {
		return Identity{}, err
	}
	return p.identity(), nil
}

// answerTicket uses up a ticket of this node for another one.
func (m *Manager) answerTicket(ticket string) (any, error) {
	p, ok := m.tickets.Take(ticket)
	if !ok {
		return nil, errTicket
	}
	return p, nil
}
