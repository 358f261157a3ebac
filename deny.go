package realtime

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/realtime-go/realtime/internal/admission"
	"github.com/realtime-go/realtime/internal/cluster"
)

const (
	// maxDiffer is how many signs of life in turn of another node may have a digest that differs before
	// the node is asked: a denial may be on its way, or about to be forgotten.
	maxDiffer = 3
	// askBuckets is how many buckets of denials one question is about.
	askBuckets = 8
	// rememberDenial is how long nodes remember each denial at least: one that was cut off for longer may
	// bring back an older one.
	rememberDenial = time.Hour
)

// denials keeps users out at all nodes, see [User.Deny]. Each node remembers all denials. A new one is
// told to all nodes at once; one that has missed it finds that in the signs of life, which have digests.
type denials struct {
	m *Manager

	mu     sync.Mutex
	told   [admission.Buckets]uint64 // the digests that this node has told
	differ map[cluster.ID]*[admission.Buckets]uint8
	asking map[cluster.ID]bool
}

func newDenials(m *Manager) *denials {
	if !m.node.Alone() {
		m.revocations.Share(rememberDenial)
	}
	return &denials{
		m: m, differ: map[cluster.ID]*[admission.Buckets]uint8{}, asking: map[cluster.ID]bool{},
	}
}

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
// when it can reach the others again.
func (ds *denials) learn(ctx context.Context) {
	for first := 0; first < admission.Buckets; first += askBuckets {
		a := ask{}
		for i := range askBuckets {
			a.Buckets = append(a.Buckets, first+i)
		}
		answers, err := ds.m.node.AskAll(ctx, askDenials, &a)
		for i := range answers {
			ds.take(answers[i].Body)
		}
		if err != nil { // the signs of life tell what is missing
			ds.m.log.Log(ctx, slog.LevelWarn, "denials",
				"realtime: not all nodes have said who is denied", slog.Any("error", err))
			return
		}
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

// tell returns the digests for the next sign of life, nil if there are no denials.
func (ds *denials) tell() (data []byte) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if ds.told = ds.m.revocations.Digests(); ds.told == [admission.Buckets]uint64{} {
		return nil
	}
	for _, d := range ds.told {
		data = binary.BigEndian.AppendUint64(data, d)
	}
	return data
}

// compare compares the digests of another node with those of this one. If some stay different, it is
// asked.
func (ds *denials) compare(from cluster.ID, data []byte) {
	if len(data) != 0 && len(data) != 8*admission.Buckets {
		return // a newer version
	}
	ds.mu.Lock()
	defer ds.mu.Unlock()
	counts := ds.differ[from]
	var differ []int
	for i := range ds.told {
		theirs := uint64(0)
		if len(data) > 0 {
			theirs = binary.BigEndian.Uint64(data[8*i:])
		}
		switch {
		case theirs == ds.told[i] && counts != nil:
			counts[i] = 0
		case theirs != ds.told[i]:
			if counts == nil {
				counts = &[admission.Buckets]uint8{}
				ds.differ[from] = counts
			}
			counts[i] = min(counts[i]+1, maxDiffer)
			if counts[i] == maxDiffer && len(differ) < askBuckets {
				differ = append(differ, i)
			}
		}
	}
	if counts != nil && *counts == [admission.Buckets]uint8{} {
		delete(ds.differ, from)
	}
	if len(differ) == 0 || ds.asking[from] {
		return
	}
	for _, i := range differ {
		counts[i] = 0
	}
	ds.asking[from] = true
	ds.m.broker.Go(func() { ds.ask(from, differ) })
}

// ask asks a node for the denials in some buckets.
func (ds *denials) ask(from cluster.ID, buckets []int) {
	body, err := ds.m.node.Fetch(context.Background(), from, askDenials, &ask{Buckets: buckets})
	if err == nil {
		ds.take(body)
	}
	ds.mu.Lock()
	defer ds.mu.Unlock()
	delete(ds.asking, from)
}

// forget forgets a node that is gone.
func (ds *denials) forget(id cluster.ID) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	delete(ds.differ, id)
}
