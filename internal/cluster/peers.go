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

// peers are the other nodes.
type peers struct {
	mu  sync.Mutex
	all map[ID]*peer
}

// peer is another node. It is alive until its lease ends. After that its members may come back for
// the time of the grace: then it is gone.
type peer struct {
	heard time.Time // or when the lease began anew, see reset
	last  time.Time // when it was heard
	ended bool      // it has said goodbye
	lost  bool      // it is not alive
}

// left returns how long the members of a node that is not heard again may still come back.
func (p *peer) left(now time.Time, grace time.Duration) time.Duration {
	if !p.ended {
		grace += lease
	}
	return grace - now.Sub(p.heard)
}

// quiet is how long a node may not have been heard before it is asked for all that it has said
// meanwhile.
const quiet = 2 * time.Second

// note notes that a node was heard. missed reports that it was not for some time: things may be missing.
// back reports that it was taken for lost.
func (ps *peers) note(id ID) (missed, back bool) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p, now := ps.all[id], time.Now()
	if p == nil {
		p = &peer{}
		ps.all[id] = p
	}
	if p.ended { // it was sent before the goodbye
		return false, false
	}
	missed = now.Sub(p.heard) > quiet
	back = p.lost
	p.heard, p.last, p.lost = now, now, false
	return missed, back
}

// end notes that a node has said goodbye.
func (ps *peers) end(id ID) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p := ps.all[id]; p != nil {
		p.heard, p.ended, p.lost = time.Now(), true, true
	}
}

// alive returns the nodes that are alive, sorted.
func (ps *peers) alive() (ids []ID) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	now := time.Now()
	for id, p := range ps.all {
		if !p.ended && now.Sub(p.heard) <= lease {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b ID) int { return slices.Compare(a[:], b[:]) })
	return ids
}

// awaited returns the nodes that must answer a question to all: those that are not alive, too, unless
// they have said goodbye or are gone. They may only be cut off.
func (ps *peers) awaited() (ids []ID) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for id, p := range ps.all {
		if !p.ended {
			ids = append(ids, id)
		}
	}
	return ids
}

// sweep returns the nodes that are lost or gone since the last call, and forgets those that are gone.
// After the lease, the members of a node have the time of a grace to come back.
func (ps *peers) sweep(grace time.Duration) (turned []ID) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	now := time.Now()
	for id, p := range ps.all {
		if p.left(now, grace) < 0 {
			delete(ps.all, id)
			turned = append(turned, id)
		} else if !p.lost && now.Sub(p.heard) > lease {
			p.lost = true
			turned = append(turned, id)
		}
	}
	return turned
}

// State is what a node knows of another one.
type State int

// The states of a node. One of which nothing is known is gone.
const (
	Gone State = iota
	Alive
	Lost // it has ended, or is not heard any more
)

// State returns the state of another node.
func (n *Node) State(id ID) State {
	n.peers.mu.Lock()
	defer n.peers.mu.Unlock()
	switch p := n.peers.all[id]; {
	case p == nil:
		return Gone
	case p.lost:
		return Lost
	}
	return Alive
}

// Answers reports whether another node was heard in the last seconds, whatever its lease is.
func (n *Node) Answers(id ID) bool {
	n.peers.mu.Lock()
	defer n.peers.mu.Unlock()
	p := n.peers.all[id]
	return p != nil && !p.ended && time.Since(p.last) <= 2*quiet
}

// reset begins all leases anew: this node could not hear the others.
func (ps *peers) reset() {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range ps.all {
		p.heard = time.Now()
	}
}

// left returns how long the members of a node may still come back; zero if it is gone.
func (ps *peers) left(id ID, grace time.Duration) time.Duration {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p := ps.all[id]; p != nil {
		return max(0, p.left(time.Now(), grace))
	}
	return 0
}

// adopt notes a node of which only others know.
func (ps *peers) adopt(id ID, left, grace time.Duration) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if ps.all[id] == nil {
		p := &peer{heard: time.Now().Add(min(left, grace+lease) - grace - lease), lost: true}
		ps.all[id] = p
	}
}

// Left returns how long the members of another node may still come back if it is not heard again;
// zero if it is gone.
func (n *Node) Left(id ID) time.Duration { return n.peers.left(id, n.grace) }

// Adopt notes a node that did not answer, of which others say that its members may come back for so
// long. If this node does not know it, it is lost.
func (n *Node) Adopt(id ID, left time.Duration) { n.peers.adopt(id, left, n.grace) }

// Peers returns the other nodes that are alive, sorted.
func (n *Node) Peers() []ID { return n.peers.alive() }

// SetCut notes that this node cannot hear the others, or can again. It takes none for gone meanwhile.
func (n *Node) SetCut(cut bool) {
	n.peers.reset()
	n.cut.Store(cut)
}

// beat sends a sign of life, and does so again.
func (n *Node) beat() {
	if n.ctx.Err() != nil {
		return
	}
	n.tell(KindBeat, n.events.Beat())
	if !n.cut.Load() {
		for _, id := range n.peers.sweep(n.grace) {
			n.events.Turned(id)
		}
	}
	n.wheel.Set(&n.beating, beatInterval)
}

// tell sends an envelope to all nodes.
func (n *Node) tell(kind Kind, data []byte) {
	ctx, cancel := context.WithTimeout(context.Background(), beatInterval)
	defer cancel()
	_, _ = n.send(ctx, &Envelope{Kind: kind, Data: data}, allSubject) // another one follows, or the lease ends
}
