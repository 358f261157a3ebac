package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/wire"
)

const (
	// askTime is how long all nodes have to answer, and findTime the nodes that have something.
	askTime  = 2 * time.Second
	findTime = 250 * time.Millisecond
)

// RefusedError is the error with which a node has answered.
type RefusedError struct {
	Node ID
	Text string
}

// Error returns the text of the error with the node.
func (e *RefusedError) Error() string { return "node " + e.Node.String() + ": " + e.Text }

// ErrNoNode is returned by Ask if there is no such node.
var ErrNoNode = errors.New("cluster: no such node")

// Answer is the answer of one node.
type Answer struct {
	From ID
	Body json.RawMessage
}

// question is what a node asks.
type question struct {
	ID     uint64          `json:"id"`
	Method string          `json:"method,omitempty"`
	Body   json.RawMessage `json:"body,omitempty"`
	// Error is of an answer, which has the ID of the question.
	Error string `json:"error,omitempty"`
}

// asking are the questions that wait for answers.
type asking struct {
	mu   sync.Mutex
	next uint64
	all  map[uint64]*pending
}

// pending is a question that waits for answers.
type pending struct {
	missing map[ID]bool // that must answer
	least   int         // answers in all; negative: not known
	from    map[ID]bool // who has answered
	answers []Answer
	errs    []error
	done    chan struct{} // closed when nothing is missing
	closed  bool
}

// settle closes done if nothing is missing. The lock is held.
func (p *pending) settle() {
	if !p.closed && len(p.missing) == 0 && p.least >= 0 && len(p.answers)+len(p.errs) >= p.least {
		p.closed = true
		close(p.done)
	}
}

// AskAll asks all other nodes and waits for their answers, for two seconds at most. It returns those
// that have come and, if nodes have not answered or have answered with an error, an error that names
// them. It matches broker.ErrUnavailable if a node cannot be reached, also one that is not heard any
// more, as long as its members may come back.
func (n *Node) AskAll(ctx context.Context, method string, body any) ([]Answer, error) {
	return n.ask(ctx, askTime, allSubject, n.peers.awaited(), method, body)
}

// AskRoom asks the nodes that are interested in a room, for a quarter of a second at most. Otherwise
// it is like AskAll.
func (n *Node) AskRoom(ctx context.Context, room, method string, body any) ([]Answer, error) {
	return n.ask(ctx, findTime, broker.RoomStream(room), nil, method, body)
}

// AskUser asks the nodes that are interested in a user. Otherwise it is like AskRoom.
func (n *Node) AskUser(ctx context.Context, user, method string, body any) ([]Answer, error) {
	return n.ask(ctx, findTime, broker.InboxStream(user), nil, method, body)
}

// AskUsers asks the nodes that are interested in one user, or all nodes about several.
func (n *Node) AskUsers(
	ctx context.Context, users []string, method string, body any,
) ([]Answer, error) {
	switch {
	case len(users) == 0:
		return nil, nil
	case len(users) == 1:
		return n.AskUser(ctx, users[0], method, body)
	}
	return n.ask(ctx, findTime, allSubject, n.Peers(), method, body)
}

// Ask asks one node, and waits for a quarter of a second at most. It returns ErrNoNode if there is no
// such node, and a *RefusedError if the node answers with an error.
func (n *Node) Ask(ctx context.Context, to ID, method string, body any) (json.RawMessage, error) {
	return n.askOne(ctx, findTime, to, method, body)
}

func (n *Node) askOne(
	ctx context.Context, wait time.Duration, to ID, method string, body any,
) (json.RawMessage, error) {
	if n.Alone() || to == n.ID {
		return nil, ErrNoNode
	}
	answers, err := n.ask(ctx, wait, nodePrefix+to.String(), []ID{to}, method, body)
	if err != nil {
		return nil, err
	}
	return answers[0].Body, nil
}

// Fetch is Ask for what nobody waits for: the node has two seconds to answer.
func (n *Node) Fetch(ctx context.Context, to ID, method string, body any) (json.RawMessage, error) {
	return n.askOne(ctx, askTime, to, method, body)
}

// FetchRoom is AskRoom for what nobody waits for: the nodes have two seconds to answer.
func (n *Node) FetchRoom(ctx context.Context, room, method string, body any) ([]Answer, error) {
	return n.ask(ctx, askTime, broker.RoomStream(room), nil, method, body)
}

// ask asks the nodes that listen to a subject. The known ones must answer. If the node is alone, there
// are no answers.
func (n *Node) ask(
	ctx context.Context, wait time.Duration, subject string, known []ID, method string, body any,
) ([]Answer, error) {
	if n.Alone() {
		return nil, nil
	}
	text, err := wire.Marshal(body)
	if err != nil {
		return nil, err
	}
	p := &pending{missing: map[ID]bool{}, from: map[ID]bool{}, least: -1, done: make(chan struct{})}
	for _, id := range known {
		p.missing[id] = true
	}
	q := question{Method: method, Body: text}
	q.ID = n.asking.add(p)
	defer n.asking.remove(q.ID)
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	n.own.Wait(ctx) // or the answers would not arrive
	receivers, err := n.sendQuestion(ctx, subject, KindAsk, &q)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", broker.ErrUnavailable, err)
	}
	if receivers == 0 && len(known) == 1 && subject != allSubject && n.State(known[0]) != Alive {
		return nil, ErrNoNode
	}
	n.asking.mu.Lock()
	if p.least = receivers; receivers < 0 && len(known) > 0 {
		p.least = len(known)
	}
	if receivers == 0 { // so nobody answers, and those that must are missing
		defer n.asking.mu.Unlock()
		return nil, p.result()
	}
	p.settle()
	n.asking.mu.Unlock()
	select {
	case <-p.done:
	case <-ctx.Done():
	case <-n.ctx.Done():
		return nil, broker.ErrClosed
	}
	peers := n.peers.awaited()
	n.asking.mu.Lock()
	defer n.asking.mu.Unlock()
	if subject == allSubject {
		p.concede(peers)
	}
	return p.answers, p.result()
}

// concede expects no more answers if all nodes that are alive have answered. Another receiver is a
// connection of a machine that is gone, which the engine still keeps; or it is a node that began a moment
// ago, and has nothing to answer with. The lock is held.
func (p *pending) concede(peers []ID) {
	for _, id := range peers {
		if !p.from[id] {
			return
		}
	}
	p.least = min(p.least, len(p.answers)+len(p.errs))
}

// result returns an error if not all have answered well. The lock is held.
func (p *pending) result() error {
	var missing []string
	for id := range p.missing {
		missing = append(missing, id.String())
	}
	slices.Sort(missing)
	unknown := p.least - len(p.answers) - len(p.errs) - len(missing)
	switch {
	case len(missing) > 0:
		return fmt.Errorf("%w: no answer of node %s", broker.ErrUnavailable, strings.Join(missing, ", "))
	case unknown > 0:
		return fmt.Errorf("%w: no answer of %d nodes", broker.ErrUnavailable, unknown)
	case p.least < 0:
		return fmt.Errorf("%w: it is not known how many nodes were asked", broker.ErrUnavailable)
	}
	return errors.Join(p.errs...)
}

func (n *Node) sendQuestion(
	ctx context.Context, subject string, kind Kind, q *question,
) (receivers int, err error) {
	data, err := wire.Marshal(q)
	if err != nil {
		return 0, err
	}
	return n.send(ctx, &Envelope{Kind: kind, Data: data}, subject)
}

func (a *asking) add(p *pending) (id uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.next++
	a.all[a.next] = p
	return a.next
}

func (a *asking) remove(id uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.all, id)
}

// answered takes an answer.
func (n *Node) answered(from ID, data []byte) error {
	var q question
	if err := json.Unmarshal(data, &q); err != nil {
		return err
	}
	a := &n.asking
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.all[q.ID]
	if p == nil || p.from[from] { // too late, or again
		return nil
	}
	p.from[from] = true
	delete(p.missing, from)
	if q.Error != "" {
		p.errs = append(p.errs, &RefusedError{from, q.Error})
	} else {
		p.answers = append(p.answers, Answer{from, q.Body})
	}
	p.settle()
	return nil
}

// asked answers a question.
func (n *Node) asked(from ID, data []byte) error {
	var q question
	if err := json.Unmarshal(data, &q); err != nil {
		return err
	}
	n.bus.Go(func() {
		body, err := n.events.Answer(n.ctx, q.Method, q.Body)
		a := question{ID: q.ID}
		if err == nil {
			a.Body, err = wire.Marshal(body)
		}
		if err != nil {
			a.Error = err.Error()
		}
		ctx, cancel := context.WithTimeout(context.Background(), askTime)
		defer cancel()
		_, _ = n.sendQuestion(ctx, nodePrefix+from.String(), KindAnswer, &a)
	})
	return nil
}
