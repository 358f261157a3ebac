package bolt

import (
	"sync"
	"sync/atomic"

	bbolt "go.etcd.io/bbolt"

	"github.com/realtime-go/realtime/broker"
)

// head is what is held in memory of a stream that is in use.
type head struct {
	name string
	pins int // who uses it; under the cache's lock

	mu     sync.Mutex // held while the stream's publications are delivered
	loaded bool
	subs   int
	there  bool            // it is in the file, as far as anybody was told
	seen   broker.Position // of what was delivered last

	begun atomic.Bool // it is in the file, or may be

	state   state               // as committed last; the writer's once it is loaded
	readers map[string]struct{} // those that are new while it is not there; the writer's
}

// position returns where the stream is for those who look at it. It is the zero Position if the
// stream is not there, and nobody is subscribed to it.
func (h *head) position() (at broker.Position, there bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.there && h.subs == 0 {
		return broker.Position{}, false
	}
	return h.seen, h.there
}

// cacheHeads is how many heads are held that nobody uses. They are of streams in the file: anybody
// may ask for a name.
const cacheHeads = 4096

// cache holds the heads: those in use, and some more.
type cache struct {
	mu    sync.Mutex
	heads map[string]*head
}

func newCache() cache { return cache{heads: map[string]*head{}} }

// pin returns the head of a stream, loaded or not, which stays until unpin.
func (c *cache) pin(stream string) *head {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.heads[stream]
	if h == nil {
		h = &head{name: stream}
		c.heads[stream] = h
	}
	h.pins++
	return h
}

// again pins a head that is pinned.
func (c *cache) again(h *head) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h.pins++
}

func (c *cache) unpin(h *head) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.pins--; h.pins == 0 && (len(c.heads) > cacheHeads || !h.begun.Load()) {
		delete(c.heads, h.name)
	}
}

// find returns the head of a stream if it is held. It may be let go at any time.
func (c *cache) find(stream string) *head {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.heads[stream]
}

// claim returns the head of a stream that nobody uses, pinned and locked: whoever wants to use it
// waits, and loads it anew. It returns nil if it is in use.
func (c *cache) claim(stream string) *head {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.heads[stream]
	if h == nil {
		h = &head{name: stream}
		c.heads[stream] = h
	}
	if h.pins > 0 || !h.mu.TryLock() {
		return nil
	}
	h.pins++
	h.loaded = false
	return h
}

// pinned returns all heads that are in use.
func (c *cache) pinned() []*head {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*head
	for _, h := range c.heads {
		if h.pins > 0 {
			all = append(all, h)
		} else {
			delete(c.heads, h.name)
		}
	}
	return all
}

// acquire returns the head of a stream, which stays until it is unpinned.
func (b *Broker) acquire(stream string) (*head, error) {
	if err := checkKey("stream", len(stream)); err != nil {
		return nil, err
	}
	h := b.cache.pin(stream)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.loaded {
		return h, nil
	}
	if err := b.store.view(func(tx *bbolt.Tx) error { return b.load(tx, h) }); err != nil {
		b.cache.unpin(h)
		return nil, err
	}
	return h, nil
}

// load fills in a head. h is locked.
func (b *Broker) load(tx *bbolt.Tx, h *head) error {
	name := []byte(h.name)
	st, ok := readState(name, tx.Bucket([]byte(bucketStreams)).Get(name))
	if !ok {
		b.damaged(Damage{Stream: h.name, What: "stream"}) // it begins anew
		st.epoch = draw()
	}
	h.there = st.number != 0
	if st.epoch == 0 {
		st.epoch = b.epochs.of(tx, h.name)
	}
	h.begun.Store(h.there)
	h.state, h.seen, h.loaded = st, st.position(b.era.Load(), st.top), true
	return nil
}
