package cluster

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/timerwheel"
)

// Bus is the broker of a node, see broker.Bus.
type Bus interface {
	Listen(ctx context.Context, subject string) error
	// Unlisten does not wait for the engine.
	Unlisten(subject string)
	Send(ctx context.Context, data []byte, subjects ...string) (receivers int, err error)
	// Go runs a function in a goroutine that the broker waits for when it closes. After that it does
	// nothing.
	Go(func())
}

// Node is a Manager, alone or with others. It is safe for concurrent use.
type Node struct {
	ID ID

	bus      Bus // nil: it is alone
	interest interest
	seen     seen
	number   atomic.Uint64
	own, all *Subject
	events   Events
	grace    time.Duration
	cut      atomic.Bool
	peers    peers
	asking   asking
	wheel    *timerwheel.Wheel
	beating  timerwheel.Timer
	synced   chan struct{} // closed when sync has returned
	closing  sync.Once
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
}

// Events is what a node needs of its Manager. Its methods are called in goroutines of the node.
type Events interface {
	// Answer answers a question of another node. ctx ends when the node closes.
	Answer(ctx context.Context, method string, body json.RawMessage) (answer any, err error)
	// Sync asks the others what a new node must know.
	Sync(ctx context.Context)
	// Beat returns what the next sign of life says, and Beaten takes that of another node.
	Beat() []byte
	Beaten(from ID, data []byte) error
	// Part takes what another node says about its part of a room.
	Part(from ID, data []byte) error
	// Missed notes that a node is heard again, or for the first time: things may be missing.
	Missed(from ID)
	// Turned notes that a node has ended or is not heard any more, or is again, or is gone with its
	// members: see Node.State.
	Turned(id ID)
}

// The subjects of nodes. Those of rooms and users are the names of their streams.
const (
	allSubject = "all"
	nodePrefix = "node/"
	// maxSubjects is to how many subjects an envelope is sent. One for more goes to all nodes.
	maxSubjects = 16
)

// NewNode returns a node with a new ID. Without a bus it is alone. It listens to nothing before
// Open.
func NewNode(bus Bus, wheel *timerwheel.Wheel) *Node {
	n := &Node{ID: NewID(), bus: bus, wheel: wheel, synced: make(chan struct{})}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.beating.Fire = func() { bus.Go(n.beat) }
	n.peers.all, n.asking.all = map[ID]*peer{}, map[uint64]*pending{}
	n.interest = interest{bus: bus, wheel: wheel, ctx: n.ctx, all: map[string]*Subject{}}
	return n
}

// Alone reports whether there are no other nodes.
func (n *Node) Alone() bool { return n.bus == nil }

// Open begins to listen to what is sent to this node and to all nodes, and to answer questions. grace
// is how long the members of a node that has ended may come back.
func (n *Node) Open(e Events, grace time.Duration) {
	if n.Alone() {
		return
	}
	n.events, n.grace = e, grace
	n.own = n.interest.enter(nodePrefix + n.ID.String())
	n.all = n.interest.enter(allSubject)
	n.bus.Go(func() {
		defer close(n.synced)
		ctx := context.Background() // listening is bounded, and so are questions
		n.own.Wait(ctx)
		n.all.Wait(ctx)
		n.beat()
		e.Sync(ctx)
	})
}

// Wait waits until the node receives what is sent to it and knows what it must know, or the engine
// cannot be reached, or ctx ends.
func (n *Node) Wait(ctx context.Context) {
	if n.Alone() {
		return
	}
	select {
	case <-n.synced:
	case <-ctx.Done():
	case <-n.ctx.Done():
	}
}

// Close says goodbye to the other nodes, and ends all waiting. It may be called again.
func (n *Node) Close() {
	n.closing.Do(func() {
		n.cancel()
		if !n.Alone() {
			n.wheel.Stop(&n.beating)
			n.tell(KindBye, nil)
		}
	})
}

// EnterRoom begins interest in a room, and EnterUser in a user. They do not block. They return nil if
// the node is alone.
func (n *Node) EnterRoom(room string) *Subject {
	if n.Alone() {
		return nil
	}
	return n.interest.enter(broker.RoomStream(room))
}

// EnterUser is documented at EnterRoom.
func (n *Node) EnterUser(user string) *Subject {
	if n.Alone() {
		return nil
	}
	return n.interest.enter(broker.InboxStream(user))
}

// Send sends data to the other nodes that may have receivers of a target. It returns how many take
// them, counted once for each part of the target, or a negative number if that is not known.
func (n *Node) Send(ctx context.Context, t *broker.Target, kind Kind, data []byte) (receivers int) {
	if n.Alone() {
		return 0
	}
	subjects := n.subjects(t)
	if len(subjects) == 0 {
		return 0
	}
	e := Envelope{Kind: kind, Data: data}
	if len(subjects) > 1 {
		e.Number = n.number.Add(1)
	}
	receivers, err := n.send(ctx, &e, subjects...)
	if err != nil {
		return -1
	}
	return receivers
}

// SendPart sends the other nodes that are interested in a room what this one says about its part.
func (n *Node) SendPart(ctx context.Context, room string, data []byte) error {
	_, err := n.send(ctx, &Envelope{Kind: KindPart, Data: data}, broker.RoomStream(room))
	return err
}

// send sends an envelope of this node.
func (n *Node) send(ctx context.Context, e *Envelope, subjects ...string) (receivers int, err error) {
	e.From = n.ID
	return n.bus.Send(ctx, e.append(nil), subjects...)
}

// subjects returns the subjects of a target, each once.
func (n *Node) subjects(t *broker.Target) (subjects []string) {
	if t.All || len(t.Rooms)+len(t.Users)+len(t.Conns) > maxSubjects {
		return []string{allSubject}
	}
	for _, room := range t.Rooms {
		subjects = append(subjects, broker.RoomStream(room))
	}
	for _, user := range t.Users {
		subjects = append(subjects, broker.InboxStream(user))
	}
	for _, conn := range t.Conns {
		if id, ok := NodeOf(conn); ok && id != n.ID {
			subjects = append(subjects, nodePrefix+id.String())
		}
	}
	slices.Sort(subjects)
	return slices.Compact(subjects)
}

// Receive takes what another node has sent. It returns a message, unless that was received before,
// over another subject; nil if it is no message.
func (n *Node) Receive(data []byte) (message []byte, err error) {
	e, err := parse(data)
	if err != nil || e.From == n.ID {
		return nil, err
	}
	if e.Kind == KindBye {
		n.peers.end(e.From)
		n.events.Turned(e.From)
		return nil, nil
	}
	missed, back := n.peers.note(e.From)
	if back {
		n.events.Turned(e.From)
	}
	if missed {
		n.events.Missed(e.From)
	}
	switch e.Kind {
	case KindBeat:
		return nil, n.events.Beaten(e.From, e.Data)
	case KindPart:
		return nil, n.events.Part(e.From, e.Data)
	case KindMessage:
		if e.Number == 0 || n.seen.firstTime(e.From, e.Number) {
			return e.Data, nil
		}
	case KindAsk:
		return nil, n.asked(e.From, e.Data)
	case KindAnswer:
		return nil, n.answered(e.From, e.Data)
	}
	return nil, nil
}
