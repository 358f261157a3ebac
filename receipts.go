package realtime

import (
	"context"
	"errors"
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

// errUnfinished is how a message ended whose handler ended its goroutine.
var errUnfinished = errors.New("realtime: not finished")

// receiptKey names a message. Anonymous senders have the empty user together: they cannot know
// each other's ids before they are used.
type receiptKey struct{ user, id string }

// receipt is one message that was sent, or is being sent.
type receipt struct {
	key  receiptKey
	at   time.Time
	done chan struct{} // closed when err is known
	err  error
}

type receiptShard struct {
	mu    sync.Mutex
	known map[receiptKey]*receipt
	order []*receipt // the oldest first; also those that are not known any more
}

// once runs send, unless the message was sent before: then it returns how that ended, and waits
// for it if need be, until ctx ends. What has failed may be tried again.
func (rs *receipts) once(ctx context.Context, key receiptKey, send func() error) (err error) {
	shard := &rs.shards[maphash.Comparable(rs.seed, key)%receiptShards]
	r, mine := shard.begin(key, time.Now())
	if !mine {
		select {
		case <-r.done:
			return r.err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	err = errUnfinished // if send does not return
	defer func() { shard.settle(r, err) }()
	err = send()
	return err
}

// begin returns the receipt of a message, and whether it is new.
func (s *receiptShard) begin(key receiptKey, now time.Time) (r *receipt, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.order) > 0 && (len(s.order) >= maxReceipts || now.Sub(s.order[0].at) >= receiptTime) {
		s.drop(s.order[0])
		s.order[0] = nil
		s.order = s.order[1:]
	}
	if r := s.known[key]; r != nil {
		return r, false
	}
	r = &receipt{key: key, at: now, done: make(chan struct{})}
	if s.known == nil {
		s.known = make(map[receiptKey]*receipt)
	}
	s.known[key] = r
	s.order = append(s.order, r)
	return r, true
}

func (s *receiptShard) settle(r *receipt, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.err = err; err != nil {
		s.drop(r)
	}
	close(r.done)
}

// drop forgets a receipt. s.mu is held.
func (s *receiptShard) drop(r *receipt) {
	if s.known[r.key] == r {
		delete(s.known, r.key)
	}
}
