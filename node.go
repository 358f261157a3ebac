package realtime

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/cluster"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/parts"
	"github.com/realtime-go/realtime/internal/wire"
)

// newNode returns the Manager as a node, alone or with the others that share its broker.
func (m *Manager) newNode() *cluster.Node {
	if m.broker.IsBus() {
		return cluster.NewNode(m.broker, m.wheel)
	}
	return cluster.NewNode(nil, m.wheel)
}

// nodeName returns the id of the node, or an empty one if there are no others.
func (m *Manager) nodeName() string {
	if m.node.Alone() {
		return ""
	}
	return m.node.ID.String()
}

// learn asks the other nodes what this one has missed while it was cut off. They do the same when
// they hear it again.
func (m *Manager) learn() {
	m.denials.learn(context.Background())
	for _, id := range m.node.Peers() {
		m.spread.missed(id)
	}
}

// maxAhead is how far the clock of another node may be ahead of that of this one. A stamp beyond that
// would make a value one that nobody can replace.
const maxAhead = 24 * time.Hour

var errAhead = errors.New("the stamp of a value is more than a day ahead")

// sink is a Manager as its broker sees it.
type sink struct{ m *Manager }

// Deliver delivers a publication. Those that were not sent by this Manager are checked.
func (s sink) Deliver(p broker.Publication) {
	if s.m.closed.Load() {
		return
	}
	if o, ok := p.Origin.(*localResult); ok {
		o.result.sum(s.m.broadcast.deliver(&p))
		return
	}
	s.deliverForeign(&p)
}

// deliverForeign delivers a publication of another process, and drops invalid ones.
func (s sink) deliverForeign(p *broker.Publication) {
	msg, to := (*Message)(&p.Message), (*Target)(&p.Target)
	err := cmp.Or(checkMessage(msg, s.m.opts.maxContent()), checkTarget(to), checkLatest(msg, to))
	if err != nil {
		s.invalid(err)
		return
	}
	if p.Message.Latest != "" {
		if p.Position.Offset > uint64(time.Now().Add(maxAhead).UnixMicro()) {
			s.invalid(errAhead)
			return
		}
		_, _ = s.m.broadcast.setLatest(p) // its sender cannot be told that it does not fit
		return
	}
	s.m.broadcast.deliver(p)
}

// invalid notes something that the broker should not have passed on.
func (s sink) invalid(err error) {
	s.m.counters.Add(metrics.Failed, 1)
	s.m.log.Log(context.Background(), slog.LevelWarn, "broker",
		"realtime: the broker delivered an invalid message", slog.Any("error", err))
}

// Lost makes all live subscriptions of the stream read what may be missing.
func (s sink) Lost(stream string) { s.m.broadcast.lost(stream) }

// Receive takes what another node has sent.
func (s sink) Receive(_ string, data []byte) {
	if s.m.closed.Load() {
		return
	}
	message, err := s.m.node.Receive(data)
	if err != nil {
		s.invalid(err)
		return
	}
	if message == nil {
		return
	}
	var p broker.Publication
	if err := p.UnmarshalBinary(message); err != nil {
		s.invalid(err)
		return
	}
	if p.Stream = ""; p.Message.Latest == "" { // it is not kept
		p.Position, p.Prev = broker.Position{}, 0
	}
	s.deliverForeign(&p)
}

// Cut notes that this process is cut off from the others, or not any more.
func (s sink) Cut(cut bool) {
	level, text := slog.LevelInfo, "realtime: the other processes can be reached again"
	if cut {
		level, text = slog.LevelError, "realtime: this process is cut off from the others"
	}
	s.m.opts.Logger.Log(context.Background(), level, text)
	s.m.node.SetCut(cut)
	if !cut {
		s.m.broker.Go(s.m.learn)
	}
}

// beat is what a sign of life says.
type beat struct {
	Parts  map[string]uint64 `json:"parts,omitempty"`  // the versions of parts that are new, by room
	Denied []byte            `json:"denied,omitempty"` // digests of all denials, see denials.tell
}

// nodeEvents is a Manager as its node sees it.
type nodeEvents struct{ m *Manager }

// Answer implements cluster.Events.
func (e nodeEvents) Answer(ctx context.Context, method string, body json.RawMessage) (any, error) {
	return e.m.answer(ctx, method, body)
}

// Sync implements cluster.Events.
func (e nodeEvents) Sync(ctx context.Context) {
	e.m.denials.learn(ctx)
	e.m.announcer.begin()
}

// Beat implements cluster.Events.
func (e nodeEvents) Beat() []byte {
	data, _ := wire.Marshal(beat{e.m.spread.beat(), e.m.denials.tell()}) // never fails
	return data
}

// Beaten implements cluster.Events.
func (e nodeEvents) Beaten(from cluster.ID, data []byte) error {
	var b beat
	if err := json.Unmarshal(data, &b); err != nil {
		return err
	}
	e.m.denials.compare(from, b.Denied)
	e.m.spread.beaten(from, b.Parts)
	return nil
}

// Part implements cluster.Events.
func (e nodeEvents) Part(from cluster.ID, data []byte) error {
	var m parts.Message
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	if err := e.m.spread.check(&m); err != nil {
		return err
	}
	if e.m.spread.take(from, &m) {
		e.m.spread.askLater(from, m.Room)
	}
	return nil
}

// Missed implements cluster.Events.
func (e nodeEvents) Missed(from cluster.ID) { e.m.broker.Go(func() { e.m.spread.missed(from) }) }

// Turned implements cluster.Events.
func (e nodeEvents) Turned(id cluster.ID) {
	if e.m.node.State(id) == cluster.Gone {
		e.m.denials.forget(id)
	}
	e.m.broker.Go(func() { e.m.spread.turned(id) })
}
