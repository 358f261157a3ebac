package realtime

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/realtime-go/realtime/internal/admission"
	"github.com/realtime-go/realtime/internal/cluster"
)

// denials keeps users out at all nodes, see [User.Deny]. Each node remembers all denials. A new one is
// told to all nodes at once; one that has missed it finds that in the signs of life, which have a digest
// of all.
type denials struct {
	m *Manager

	mu     sync.Mutex
	digest uint64             // as this node has told it
	differ map[cluster.ID]int // how often in turn a node has told another one
}

// maxDiffer is how often in turn a node may tell another digest before it is asked: a denial may be on
// its way.
const maxDiffer = 3

func newDenials(m *Manager) *denials { return &denials{m: m, differ: map[cluster.ID]int{}} }

// deny keeps a subject out at all nodes.
func (ds *denials) deny(ctx context.Context, s admission.Subject, d time.Duration) (int, error) {
	a := ask{User: s.User, Room: s.Room, For: d, Stamp: uint64(time.Now().UnixNano())}
	n := ds.denyHere(&a)
	return ds.m.everywhere(ctx, n, askDeny, &a)
}

// denyHere keeps a subject out at this node. It sets the stamp of the denial.
func (ds *denials) denyHere(a *ask) (n int) {
	s := admission.Subject{User: a.User, Room: a.Room}
	if a.Stamp = ds.m.revocations.Deny(s, a.For, a.Stamp); a.For <= 0 {
		return 0
	}
	return ds.expel(s)
}

// expel removes a subject that is kept out.
func (ds *denials) expel(s admission.Subject) (n int) {
	if s.Room != "" {
		return ds.m.remove(s.Room, s.User)
	}
	return ds.m.disconnect(s.User, CloseRefused, "denied")
}

// learn asks the other nodes. A new node does so before it takes connections, and one that was cut off
// when it can reach the others again. Those that do not answer are asked later.
func (ds *denials) learn(ctx context.Context) {
	answers, _ := ds.m.node.AskAll(ctx, askDenials, &ask{})
	for i := range answers {
		ds.take(answers[i].Body)
	}
}

// take takes what another node has answered.
func (ds *denials) take(body json.RawMessage) {
	var all []admission.Denied
	if json.Unmarshal(body, &all) != nil {
		return
	}
	for _, d := range all {
		if ds.m.revocations.Merge(d) {
			ds.expel(d.Subject)
		}
	}
}

// tell returns the digest for the next sign of life.
func (ds *denials) tell() uint64 {
	digest := ds.m.revocations.Digest()
	ds.mu.Lock()
	defer ds.mu.Unlock()
	ds.digest = digest
	return digest
}

// told takes the digest of another node. If it stays different, the node is asked.
func (ds *denials) told(from cluster.ID, digest uint64) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if digest == ds.digest {
		delete(ds.differ, from)
		return
	}
	if ds.differ[from]++; ds.differ[from] < maxDiffer {
		return
	}
	delete(ds.differ, from)
	ds.m.broker.Go(func() {
		if body, err := ds.m.node.Fetch(context.Background(), from, askDenials, &ask{}); err == nil {
			ds.take(body)
		}
	})
}

// forget forgets a node that is gone.
func (ds *denials) forget(id cluster.ID) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	delete(ds.differ, id)
}
