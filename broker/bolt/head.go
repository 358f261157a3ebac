package bolt

import (
	"sync"
	"sync/atomic"

	bbolt "go.etcd.io/bbolt"

	"github.com/realtime-go/realtime/broker"
)

// head is the state in memory of a stream that is in use.
type head struct {
	name string
	pins int // the number of users; guarded by the cache's lock

	mu     sync.Mutex // held while the stream's publications are delivered
	loaded bool
	subs   int
	there  bool            // the stream is in the file, as far as callers know
	seen   broker.Position // the position of the last delivery

	begun atomic.Bool // the stream is in the file, or may be

	state   state               // as last committed; belongs to the writer once loaded
	readers map[string]struct{} // new readers before the stream is in the file; belongs to the writer
}

// position returns the position of the stream for callers. It is the zero Position if the stream
// does not exist and has no subscription.
func (h *head) position() (at broker.Position, there bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.there && h.subs == 0 {
		return broker.Position{}, false
	}
	return h.seen, h.there
}

// cacheHeads is the number of heads above which an unused head is not held. Only heads of streams
// in the file are held unused, because callers can ask for any name.
const cacheHeads = 4096

// cache holds the heads of streams: those in use, and recently used ones.
type cache struct {
	mu    sync.Mutex
	heads map[string]*head
}

func newCache() cache { return cache{heads: map[string]*head{}} }

// pin returns the head of a stream, which may not be loaded. The head stays until unpin.
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

// again pins a head once more that is already pinned.
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

// find returns the head of a stream, or nil. The head may be released at any time.
func (c *cache) find(stream string) *head {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.heads[stream]
}

// claim returns the head of an unused stream, pinned and locked: others that want to use the stream
// wait, and then load it again. It returns nil if the stream is in use.
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

// pinned returns all heads in use, and releases the others.
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

// acquire returns the head of a stream, loaded and pinned.
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

// load fills in a head from the file. h is locked.
func (b *Broker) load(tx *bbolt.Tx, h *head) error {
	name := []byte(h.name)
	st, ok := readState(name, tx.Bucket([]byte(bucketStreams)).Get(name))
	if !ok {
		b.damaged(Damage{Stream: h.name, What: "stream"}) // the stream begins anew
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
