package realtime

import (
	"container/list"
	"context"
	"encoding/json"
	"hash/maphash"
	"sync"
	"time"
)

const (
	// receiptTime is for how long it is known that a message has been sent.
	receiptTime = 2 * time.Minute
	// receiptShards times maxReceipts bounds how many are known, for all clients.
	receiptShards = 64
	maxReceipts   = 2048
)

// receipts are the messages that clients have sent with an id. A client that lost its
// connection before the answer sends them again, and does not know which have arrived. If they
// went to their receivers again, one who was away for the first time would get them behind
// later ones.
type receipts struct {
	seed   maphash.Seed
	shards [receiptShards]receiptShard
}

func newReceipts() *receipts { return &receipts{seed: maphash.MakeSeed()} }

// receiptKey names a message. Anonymous senders have the empty user together: they cannot know
// each other's ids before they are used.
type receiptKey struct{ user, id string }

// receipt is one message that was sent, or is being sent.
type receipt struct {
	key     receiptKey
	at      time.Time
	settled bool
	answer  []byte        // what the client was told, once settled
	done    chan struct{} // closed when it is settled; nil as long as nobody waits
}

type receiptShard struct {
	mu    sync.Mutex
	known map[receiptKey]*list.Element // of a *receipt
	order list.List                    // the oldest first
}

// once runs send, unless the message was sent before. If that is under way, it waits for it until
// ctx ends. What has failed is tried again: it may have failed because its connection ended.
// The answer is that of the first.
func (rs *receipts) once(
	ctx context.Context, key receiptKey, send func() (json.RawMessage, error),
) (json.RawMessage, error) {
	shard := &rs.shards[maphash.Comparable(rs.seed, key)%receiptShards]
	for {
		mine, first := shard.begin(key, time.Now())
		switch {
		case mine:
			return shard.run(key, send)
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
func (s *receiptShard) run(key receiptKey, send func() (json.RawMessage, error)) (json.RawMessage, error) {
	sent := false
	var answer json.RawMessage
	defer func() { s.settle(key, sent, answer) }()
	answer, err := send()
	sent = err == nil
	return answer, err
}

// begin reports whether the message is new, and the caller's to send. Otherwise first was sent, or
// is under way until done is closed.
func (s *receiptShard) begin(key receiptKey, now time.Time) (mine bool, first receipt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(now)
	if e := s.known[key]; e != nil {
		r := e.Value.(*receipt)
		if !r.settled && r.done == nil {
			r.done = make(chan struct{})
		}
		return false, *r
	}
	if s.known == nil {
		s.known = make(map[receiptKey]*list.Element)
	}
	s.known[key] = s.order.PushBack(&receipt{key: key, at: now})
	return true, receipt{}
}

// forget forgets the oldest, if they are old or too many, but none that is under way. s.mu is
// held.
func (s *receiptShard) forget(now time.Time) {
	for range s.order.Len() {
		e := s.order.Front()
		r := e.Value.(*receipt)
		switch {
		case len(s.known) < maxReceipts && now.Sub(r.at) < receiptTime:
			return
		case !r.settled:
			s.order.MoveToBack(e)
		default:
			s.order.Remove(e)
			delete(s.known, r.key)
		}
	}
}

func (s *receiptShard) settle(key receiptKey, sent bool, answer []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.known[key]
	r := e.Value.(*receipt)
	r.answer = answer
	if r.settled = true; r.done != nil {
		close(r.done)
	}
	if !sent {
		s.order.Remove(e)
		delete(s.known, key)
	}
}
