// Package dedup answers a message that a client sends again, and keeps it from being sent twice.
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

	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/shrink"
	"github.com/realtime-go/realtime/internal/timerwheel"
)

const (
	// receiptTime is for how long it is known that a message has been sent.
	receiptTime   = 2 * time.Minute
	receiptShards = 64
	// receiptBytes is about what a receipt takes beside its answer, and windowBytes what a window
	// takes beside its receipts.
	receiptBytes = 96
	windowBytes  = 256
	// receiptMemory is for all receipts, in bytes, if there is no Options.MemoryBudget. If there
	// is one, an eighth of that. Windows of less than freeReceipts are let grow until there are four
	// times as many: senders can be made up.
	receiptMemory = 32 << 20
	freeReceipts  = 200
)

// errReceipts says that a sender has sent too many messages with an id.
var ErrReceipts = errors.New("realtime: too many messages with an id within two minutes")

// receipts are the messages that clients have sent with an id. A client that lost its
// connection before the answer sends them again, and does not know which have arrived. If they
// went to their receivers again, a receiver that was away for the first time would get them after
// later ones.
//
// Each sender has a window of its own: what others send neither shortens it nor meets its ids. A
// window may be as large as what is free of the memory of all (dynamic thresholds: Choudhury and
// Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998). Where little is
// free, it may be as large as its fair share, until they take twice that memory together, and have
// freeReceipts in any case: a few that send as much as they can do not stop the others. A sender
// whose window is full is refused until its oldest receipts are old: nothing is forgotten early.
type Receipts struct {
	seed   maphash.Seed
	memory int64 // in bytes, for all
	used   atomic.Int64
	n      atomic.Int64 // windows
	budget *sendqueue.Budget
	wheel  *timerwheel.Wheel
	timer  timerwheel.Timer
	armed  atomic.Bool // the timer is set
	shards [receiptShards]receiptShard
}

// newReceipts returns receipts that count in budget. The wheel sees to it that they are forgotten
// when no message comes that would.
func NewReceipts(budget *sendqueue.Budget, wheel *timerwheel.Wheel) *Receipts {
	rs := &Receipts{
		seed: maphash.MakeSeed(), budget: budget, wheel: wheel,
		memory: cmp.Or(budget.Limit/8, receiptMemory),
	}
	rs.timer.Fire = rs.sweep
	return rs
}

// sender is whose ids a message's id is one of: a user's, an anonymous client's, or, if both are
// empty, the application's.
type Sender struct{ User, Guest string }

// receiptKey names a message.
type ReceiptKey struct {
	By Sender
	Id string
}

// receipt is one message that was sent, or is being sent.
type receipt struct {
	at      time.Time // when it was settled; before that, when it was begun
	settled bool
	answer  []byte        // what the client was told, once settled
	done    chan struct{} // closed when it is settled; nil as long as nobody waits
}

func (r *receipt) bytes() int { return receiptBytes + cap(r.answer) }

// window is what one sender has sent. Its ids are known by a hash of 64 bits with a secret seed: a
// sender that finds two with the same hash loses a message of its own.
type window struct {
	known map[uint64]*receipt
	most  int      // that known has held
	order []uint64 // the oldest first
	bytes int
}

// receiptShard has the windows of some senders.
type receiptShard struct {
	mu      sync.Mutex
	windows map[Sender]*window
}

// once runs send, unless the message was sent before. If that is under way, it waits for it until
// ctx ends. What has failed is tried again: it may have failed because its connection ended.
// The answer is that of the first. It returns errReceipts if the sender's window is full.
func (rs *Receipts) Once(
	ctx context.Context, key ReceiptKey, send func() (json.RawMessage, error),
) (json.RawMessage, error) {
	for {
		mine, first, err := rs.begin(key, time.Now())
		switch {
		case err != nil:
			return nil, err
		case mine:
			return rs.run(key, send)
		case first.settled:
			return first.answer, nil
		}
		select {
		case <-first.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// run runs send, and forgets the message if it fails, or does not return.
func (rs *Receipts) run(
	key ReceiptKey, send func() (json.RawMessage, error),
) (json.RawMessage, error) {
	sent := false
	var answer json.RawMessage
	defer func() { rs.settle(key, sent, answer) }()
	answer, err := send()
	sent = err == nil
	return answer, err
}

func (rs *Receipts) shard(by Sender) *receiptShard {
	return &rs.shards[maphash.Comparable(rs.seed, by)%receiptShards]
}

// begin reports whether the message is new, and the caller's to send. Otherwise first was sent, or
// is under way until done is closed.
func (rs *Receipts) begin(key ReceiptKey, now time.Time) (mine bool, first receipt, err error) {
	s, id := rs.shard(key.By), maphash.String(rs.seed, key.Id)
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.windows[key.By]
	if w != nil {
		rs.expire(w, now)
		if r := w.known[id]; r != nil {
			if !r.settled && r.done == nil {
				r.done = make(chan struct{})
			}
			return false, *r, nil
		}
		if !rs.fits(w) {
			return false, receipt{}, ErrReceipts
		}
	} else if rs.exhausted() {
		return false, receipt{}, ErrReceipts
	} else {
		w = &window{known: make(map[uint64]*receipt)}
		if s.windows == nil {
			s.windows = make(map[Sender]*window)
		}
		s.windows[key.By] = w
		rs.n.Add(1)
		rs.weigh(w, windowBytes+len(key.By.User)+len(key.By.Guest))
	}
	r := &receipt{at: now}
	w.known[id], w.order = r, append(w.order, id)
	rs.weigh(w, r.bytes())
	rs.watch()
	return true, receipt{}, nil
}

// fits reports whether there is room for one more receipt in a window.
func (rs *Receipts) fits(w *window) bool {
	used, own := rs.used.Load(), int64(w.bytes)
	return len(w.order) < freeReceipts && !rs.exhausted() || own < rs.memory-used ||
		used < 2*rs.memory && own < rs.memory/max(1, rs.n.Load())
}

// exhausted reports whether there is no room for anything any more.
func (rs *Receipts) exhausted() bool { return rs.used.Load() >= 4*rs.memory }

func (rs *Receipts) settle(key ReceiptKey, sent bool, answer []byte) {
	s, id := rs.shard(key.By), maphash.String(rs.seed, key.Id)
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.windows[key.By]
	r := w.known[id]
	if r.settled = true; r.done != nil {
		close(r.done)
	}
	if sent {
		before := r.bytes()
		r.at, r.answer = time.Now(), answer
		rs.weigh(w, r.bytes()-before)
		return
	}
	for i := len(w.order) - 1; i >= 0; i-- { // it is one of the newest
		if w.order[i] == id {
			w.order = slices.Delete(w.order, i, i+1)
			break
		}
	}
	rs.forget(w, id)
	rs.tidy(s, key.By, w)
}

// expire forgets what is old, but nothing that is under way.
func (rs *Receipts) expire(w *window, now time.Time) {
	n := len(w.order)
	for range n {
		id := w.order[0]
		r := w.known[id]
		if now.Sub(r.at) < receiptTime {
			break
		}
		w.order = w.order[1:]
		if r.settled {
			rs.forget(w, id)
		} else {
			w.order = append(w.order, id)
		}
	}
	if n > shrink.Small && len(w.order) < n/2 { // what was in front of the rest is still there
		w.order = slices.Clone(w.order)
	}
}

func (rs *Receipts) forget(w *window, id uint64) {
	rs.weigh(w, -w.known[id].bytes())
	w.known = shrink.Delete(w.known, id, &w.most)
}

// tidy forgets a window with nothing in it.
func (rs *Receipts) tidy(s *receiptShard, by Sender, w *window) {
	if len(w.known) > 0 {
		return
	}
	rs.weigh(w, -w.bytes)
	rs.n.Add(-1)
	if delete(s.windows, by); len(s.windows) == 0 {
		s.windows = nil // a map keeps the memory that it had
	}
}

// weigh counts bytes of a window.
func (rs *Receipts) weigh(w *window, bytes int) {
	w.bytes += bytes
	rs.used.Add(int64(bytes))
	rs.budget.Hold(int64(bytes))
}

// watch makes sure that sweep comes by.
func (rs *Receipts) watch() {
	if !rs.armed.Load() && !rs.armed.Swap(true) {
		rs.wheel.Set(&rs.timer, receiptTime/2)
	}
}

// sweep forgets what is old everywhere.
func (rs *Receipts) sweep() {
	rs.armed.Store(false)
	now, left := time.Now(), false
	for i := range rs.shards {
		left = rs.sweepShard(&rs.shards[i], now) || left
	}
	if left {
		rs.watch()
	}
}

func (rs *Receipts) sweepShard(s *receiptShard, now time.Time) (left bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for by, w := range s.windows {
		rs.expire(w, now)
		rs.tidy(s, by, w)
	}
	return len(s.windows) > 0
}
