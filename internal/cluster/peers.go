package cluster

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// beatInterval is the time between two signs of life of a node, and lease is how long a node is
	// taken for alive after the last one.
	beatInterval = time.Second
	lease        = 6 * time.Second
)

// peers are the other nodes that are alive.
type peers struct {
	mu    sync.Mutex
	heard map[ID]time.Time // when they were last heard
}

// note notes that a node was heard.
func (ps *peers) note(id ID) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.heard == nil {
		ps.heard = map[ID]time.Time{}
	}
	ps.heard[id] = time.Now()
}

// forget removes a node that has said goodbye.
func (ps *peers) forget(id ID) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	delete(ps.heard, id)
}

// alive returns the nodes that are alive, sorted.
func (ps *peers) alive() (ids []ID) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	now := time.Now()
	for id, at := range ps.heard {
		if now.Sub(at) > lease {
			delete(ps.heard, id)
			continue
		}
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b ID) int { return slices.Compare(a[:], b[:]) })
	return ids
}

// Peers returns the other nodes that are alive, sorted.
func (n *Node) Peers() []ID { return n.peers.alive() }

// beat sends a sign of life, and does so again.
func (n *Node) beat() {
	select {
	case <-n.interest.closed:
		return
	default:
	}
	n.tell(KindBeat)
	n.wheel.Set(&n.beating, beatInterval)
}

// tell sends an envelope without data to all nodes.
func (n *Node) tell(kind Kind) {
	e := Envelope{From: n.ID, Kind: kind}
	ctx, cancel := context.WithTimeout(context.Background(), beatInterval)
	defer cancel()
	_, _ = n.bus.Send(ctx, e.append(nil), allSubject) // another one follows, or the lease ends
}
