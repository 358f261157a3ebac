package cluster

import (
	"context"
	"slices"
	"sync/atomic"

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

// Node is a Manager of a cluster. It is safe for concurrent use.
type Node struct {
	ID ID

	bus      Bus
	interest interest
	seen     seen
	number   atomic.Uint64
	own, all *Subject
}

// The subjects of nodes. Those of rooms and users are the names of their streams.
const (
	allSubject = "all"
	nodePrefix = "node/"
	// maxSubjects is to how many subjects an envelope is sent. One for more goes to all nodes.
	maxSubjects = 16
)

// NewNode returns a node with a new ID. It listens to nothing before Open.
func NewNode(bus Bus, wheel *timerwheel.Wheel) *Node {
	n := &Node{ID: NewID(), bus: bus}
	n.interest = interest{
		bus: bus, wheel: wheel, all: map[string]*Subject{}, closed: make(chan struct{}),
	}
	return n
}

// Open begins to listen to what is sent to this node and to all nodes.
func (n *Node) Open() {
	n.own = n.interest.enter(nodePrefix + n.ID.String())
	n.all = n.interest.enter(allSubject)
}

// Wait waits until the node receives what is sent to it, or the engine cannot be reached, or ctx
// ends.
func (n *Node) Wait(ctx context.Context) {
	n.own.Wait(ctx)
	n.all.Wait(ctx)
}

// Close ends all waiting.
func (n *Node) Close() { close(n.interest.closed) }

// EnterRoom begins interest in a room, and EnterUser in a user. They do not block.
func (n *Node) EnterRoom(room string) *Subject {
	return n.interest.enter(broker.RoomStream(room))
}

// EnterUser is documented at EnterRoom.
func (n *Node) EnterUser(user string) *Subject {
	return n.interest.enter(broker.InboxStream(user))
}

// Send sends data to the other nodes that may have receivers of a target. It returns how many take
// them, counted once for each part of the target, or a negative number if that is not known.
func (n *Node) Send(ctx context.Context, t *broker.Target, kind Kind, data []byte) (receivers int) {
	subjects := n.subjects(t)
	if len(subjects) == 0 {
		return 0
	}
	e := Envelope{From: n.ID, Kind: kind, Data: data}
	if len(subjects) > 1 {
		e.Number = n.number.Add(1)
	}
	receivers, err := n.bus.Send(ctx, e.append(nil), subjects...)
	if err != nil {
		return -1
	}
	return receivers
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

// Receive reads what another node has sent. It reports false if that was received before, over
// another subject, or cannot be understood.
func (n *Node) Receive(data []byte) (e Envelope, ok bool) {
	e, err := parse(data)
	if err != nil || e.From == n.ID {
		return e, false
	}
	return e, e.Number == 0 || n.seen.firstTime(e.From, e.Number)
}
