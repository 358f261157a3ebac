// Package dedup provides a cache that detects messages which a client sends more than once.
package dedup

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/shrink"
	"github.com/realtime-go/realtime/internal/timerwheel"
)

const (
	// lifetime is how long an entry is kept after its message was sent.
	lifetime  = 2 * time.Minute
	numShards = 64
	// entryBytes is the approximate size of an entry without its answer, windowBytes that of a
	// window without its entries.
	entryBytes  = 96
	windowBytes = 256
	// defaultMemory is the memory for all entries, in bytes, if the budget has no limit.
	// Otherwise an eighth of the limit is used.
	defaultMemory = 32 << 20
	// A window with less than freeEntries may grow until all windows together take four times
	// the memory: a client can invent any number of senders.
	freeEntries = 200
)

// ErrFull means that a sender has sent too many messages with an ID.
var ErrFull = errors.New("realtime: too many messages with an id within two minutes")

// FullError is ErrFull with details.
type FullError struct {
	Wait time.Duration // until the oldest message of the sender expires; zero if not known
}

func (e *FullError) Error() string { return ErrFull.Error() }

// Is reports whether target is ErrFull.
func (e *FullError) Is(target error) bool { return target == ErrFull }

// Cache holds the messages that clients have sent with an ID. A client that loses its connection
// before it receives the answer sends its messages again, because it does not know which of them
// have arrived. If such a message were delivered again, a receiver that missed the first delivery
// would receive it after newer messages.
//
// Each sender has its own window: messages of other senders neither shorten it nor collide with its
// IDs. A window may grow as large as the free part of the memory of all windows (dynamic
// thresholds: Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet
// switches", 1998). If little is free, it may grow to the memory divided by the number of windows,
// while all together take less than twice the memory; and to freeEntries, while they take less than
// four times the memory. So a few senders that send as much as they can do not block the others. A
// sender whose window is full is refused until its oldest entries expire. No entry is removed early.
//
// A Cache is safe for concurrent use.
type Cache struct {
	seed   maphash.Seed
	memory int64 // in bytes, for all windows
	used   atomic.Int64
	n      atomic.Int64 // windows
	budget *sendqueue.Budget
	wheel  *timerwheel.Wheel
	timer  timerwheel.Timer
	armed  atomic.Bool // the timer is set
	shards [numShards]shard
}

// New returns an empty Cache that accounts for its memory in budget. The wheel runs the timer that
// removes expired entries of senders which have stopped sending.
func New(budget *sendqueue.Budget, wheel *timerwheel.Wheel) *Cache {
	c := &Cache{
		seed: maphash.MakeSeed(), budget: budget, wheel: wheel,
		memory: cmp.Or(budget.Limit/8, defaultMemory),
	}
	c.timer.Fire = c.sweep
	return c
}

// Key identifies a message.
type Key struct {
	Sender broker.Sender
	ID     string
}

// entry is one message that has been sent, or is being sent.
type entry struct {
	at     time.Time     // when it was sent; until then, when sending began
	ended  bool          // sending has ended
	answer []byte        // to the client, once sending has ended
	done   chan struct{} // closed when sending ends; nil while no repeat waits
}

func (e *entry) bytes() int { return entryBytes + cap(e.answer) }

// window holds the messages of one sender. IDs are stored as 64-bit hashes with a secret seed: a
// sender that finds two IDs with the same hash loses only a message of its own.
type window struct {
	entries map[uint64]*entry
	peak    int      // largest length of entries, see shrink.Delete
	order   []uint64 // oldest first
	bytes   int
}

// shard holds the windows of some of the senders.
type shard struct {
	mu      sync.Mutex
	windows map[broker.Sender]*window
}

// Do calls send and returns its answer, unless the message of this key has been sent before: then
// it returns the first answer.
//
// If the message is being sent, Do waits until that ends or ctx is done. A message whose send
// failed is sent again: it may have failed because the connection ended. Do returns [ErrFull] if
// the window of the sender is full, and the cause of ctx if ctx is done.
func (c *Cache) Do(
	ctx context.Context, key Key, send func() (json.RawMessage, error),
) (json.RawMessage, error) {
	for {
		isNew, first, err := c.begin(key, time.Now())
		switch {
		case err != nil:
			return nil, err
		case isNew:
			return c.run(key, send)
		case first.ended:
			return first.answer, nil
		}
		select {
		case <-first.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// run calls send, and removes the entry if send fails or does not return.
func (c *Cache) run(
	key Key, send func() (json.RawMessage, error),
) (json.RawMessage, error) {
	sent := false
	var answer json.RawMessage
	defer func() { c.finish(key, sent, answer) }()
	answer, err := send()
	sent = err == nil
	return answer, err
}

func (c *Cache) shard(sender broker.Sender) *shard {
	return &c.shards[maphash.Comparable(c.seed, sender)%numShards]
}

// begin reports whether the message is new. If so, the caller must send it and call finish.
// Otherwise first has been sent, or is being sent until done is closed.
func (c *Cache) begin(key Key, now time.Time) (isNew bool, first entry, err error) {
	s, id := c.shard(key.Sender), maphash.String(c.seed, key.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.windows[key.Sender]
	if w != nil {
		c.expire(w, now)
		if e := w.entries[id]; e != nil {
			if !e.ended && e.done == nil {
				e.done = make(chan struct{})
			}
			return false, *e, nil
		}
		if !c.fits(w) {
			return false, entry{}, c.full(w, now)
		}
	} else if c.exhausted() {
		return false, entry{}, ErrFull
	} else {
		w = &window{entries: make(map[uint64]*entry)}
		if s.windows == nil {
			s.windows = make(map[broker.Sender]*window)
		}
		s.windows[key.Sender] = w
		c.n.Add(1)
		c.account(w, windowBytes+len(key.Sender.User)+len(key.Sender.Guest))
	}
	e := &entry{at: now}
	w.entries[id], w.order = e, append(w.order, id)
	c.account(w, e.bytes())
	c.arm()
	return true, entry{}, nil
}

// fits reports whether a window has room for one more entry.
func (c *Cache) fits(w *window) bool {
	used, own := c.used.Load(), int64(w.bytes)
	return len(w.order) < freeEntries && !c.exhausted() || own < c.memory-used ||
		used < 2*c.memory && own < c.memory/max(1, c.n.Load())
}

// full returns the error for a sender whose window has no room for one more entry.
func (c *Cache) full(w *window, now time.Time) *FullError {
	if len(w.order) == 0 || c.exhausted() { // it is full because of other senders
		return &FullError{}
	}
	return &FullError{Wait: lifetime - now.Sub(w.entries[w.order[0]].at)}
}

// exhausted reports whether even windows with less than freeEntries must not grow.
func (c *Cache) exhausted() bool { return c.used.Load() >= 4*c.memory }

// finish completes an entry made by begin.
func (c *Cache) finish(key Key, sent bool, answer []byte) {
	s, id := c.shard(key.Sender), maphash.String(c.seed, key.ID)
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.windows[key.Sender]
	e := w.entries[id]
	if e.ended = true; e.done != nil {
		close(e.done)
	}
	if sent {
		before := e.bytes()
		e.at, e.answer = time.Now(), answer
		c.account(w, e.bytes()-before)
		return
	}
	for i := len(w.order) - 1; i >= 0; i-- { // it is one of the newest
		if w.order[i] == id {
			w.order = slices.Delete(w.order, i, i+1)
			break
		}
	}
	c.remove(w, id)
	c.removeIfEmpty(s, key.Sender, w)
}

// expire removes the expired entries of a window. A message that is being sent does not expire.
func (c *Cache) expire(w *window, now time.Time) {
	n := len(w.order)
	for range n {
		id := w.order[0]
		e := w.entries[id]
		if now.Sub(e.at) < lifetime {
			break
		}
		w.order = w.order[1:]
		if e.ended {
			c.remove(w, id)
		} else {
			w.order = append(w.order, id)
		}
	}
	if n > shrink.Small && len(w.order) < n/2 { // slicing alone frees no memory
		w.order = slices.Clone(w.order)
	}
}

func (c *Cache) remove(w *window, id uint64) {
	c.account(w, -w.entries[id].bytes())
	w.entries = shrink.Delete(w.entries, id, &w.peak)
}

func (c *Cache) removeIfEmpty(s *shard, sender broker.Sender, w *window) {
	if len(w.entries) > 0 {
		return
	}
	c.account(w, -w.bytes)
	c.n.Add(-1)
	if delete(s.windows, sender); len(s.windows) == 0 {
		s.windows = nil // a map does not shrink
	}
}

// account adds bytes to the size of a window. Negative bytes are subtracted.
func (c *Cache) account(w *window, bytes int) {
	w.bytes += bytes
	c.used.Add(int64(bytes))
	c.budget.Hold(int64(bytes))
}

// arm sets the timer of sweep, unless it is set.
func (c *Cache) arm() {
	if !c.armed.Load() && !c.armed.Swap(true) {
		c.wheel.Set(&c.timer, lifetime/2)
	}
}

// sweep removes the expired entries of all senders.
func (c *Cache) sweep() {
	c.armed.Store(false)
	now, left := time.Now(), false
	for i := range c.shards {
		left = c.sweepShard(&c.shards[i], now) || left
	}
	if left {
		c.arm()
	}
}

// sweepShard reports whether the shard still has windows.
func (c *Cache) sweepShard(s *shard, now time.Time) (left bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for sender, w := range s.windows {
		c.expire(w, now)
		c.removeIfEmpty(s, sender, w)
	}
	return len(s.windows) > 0
}
