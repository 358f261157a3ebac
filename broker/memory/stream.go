package memory

import (
	"sort"
	"sync"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/share"
)

const (
	// An id is remembered for idTime; after that, as long as its publication is kept and no more
	// than keptIDs ids are remembered.
	idTime  = 2 * time.Minute
	keptIDs = 1000
	// maxReaders bounds the cursors of a stream.
	maxReaders = 100
	// These are the costs in bytes of a stream without its publications, of an id, and of a cursor.
	streamBytes = 512
	idBytes     = 192
	cursorBytes = 64
	// idleTime is how long a stream that keeps nothing is remembered at least.
	idleTime = 5 * time.Minute
)

// memoryStream is one stream of a [Broker].
type memoryStream struct {
	name  string
	kind  *memoryKind
	epoch string

	mu          sync.Mutex
	kept        []broker.Publication // in the order of their offsets, without gaps
	store       []broker.Publication // the memory of kept
	bytes       int                  // of kept
	top, floor  uint64               // top zero: nothing was published, not counted in kind
	why         broker.Reason        // for floor
	keep        broker.Retention
	subscribers int
	ledger      *share.Ledger[broker.Sender] // nil: not half full, or nothing is shared
	used        time.Time                    // last Publish or Unsubscribe; at first: creation
	dead        bool

	ids     map[senderID]uint64 // offsets
	idOrder []usedID            // the oldest first
	readers map[string]uint64   // cursors
	names   int                 // the length of the names of all readers
}

// senderID is the id of a message with its sender.
type senderID struct {
	by broker.Sender
	id string
}

type usedID struct {
	senderID
	at time.Time
}

func newMemoryStream(name, epoch string, k *memoryKind) *memoryStream {
	return &memoryStream{name: name, kind: k, epoch: epoch, used: time.Now()}
}

// take gives p its position and keeps it, unless it is a duplicate or its sender has no share left.
// s.mu is held during this and all other methods.
func (s *memoryStream) take(p *broker.Publication, now time.Time) broker.Published {
	key := senderID{p.Message.From(), p.Message.ID}
	if first, ok := s.ids[key]; ok && key.id != "" {
		return broker.Published{Position: broker.Position{Epoch: s.epoch, Offset: first}, Duplicate: true}
	}
	if s.keep = p.Keep; p.Shared {
		if s.expire(now); !s.hasShare(p, now) {
			return broker.Published{Full: true}
		}
	}
	p.Prev, p.At = s.top, now
	s.top++
	p.Position = broker.Position{Epoch: s.epoch, Offset: s.top}
	s.used = now
	s.push(p)
	s.bound()
	s.expire(now)
	if key.id != "" {
		s.remember(key, now)
	}
	return broker.Published{Position: p.Position}
}

// hasShare reports whether the sender of p may keep one more. While the stream is not half full,
// every sender may, and nothing is counted.
func (s *memoryStream) hasShare(p *broker.Publication, now time.Time) bool {
	size := p.Size()
	bounds := share.Bounds{Messages: int64(p.Keep.Messages), Bytes: int64(p.Keep.Bytes)}
	kept := share.Usage{Messages: int64(len(s.kept)), Bytes: int64(s.bytes)}
	if bounds.HasRoom(kept, kept, int64(size)) {
		s.ledger = nil
		return true
	}
	if s.ledger == nil {
		s.ledger = share.NewLedger[broker.Sender](s.kept[0].Position.Offset)
		for i := range s.kept {
			s.addToLedger(&s.kept[i])
		}
	}
	s.ledger.Pass(s.floor, now)
	return s.ledger.HasRoom(p.Message.From(), size, bounds)
}

// addToLedger adds p to the ledger.
func (s *memoryStream) addToLedger(p *broker.Publication) {
	until := share.Expiry(p.At.UnixNano(), p.Message.TTL, s.keep.Age)
	s.ledger.Add(p.Message.From(), p.Size(), until)
}

// weight returns the memory of the stream, in bytes.
func (s *memoryStream) weight() int {
	counted := 0
	if s.ledger != nil {
		counted = share.EntryBytes * s.ledger.Len()
	}
	return streamBytes + len(s.name) + s.bytes + idBytes*len(s.idOrder) +
		cursorBytes*len(s.readers) + s.names + counted
}

// weighed calls change, and adds the change of the stream's weight to its kind.
func (s *memoryStream) weighed(change func()) {
	before, was := s.weight(), s.top
	if change(); s.top == 0 {
		return
	}
	if was == 0 {
		before = 0
		s.kind.streams.Add(1)
	}
	s.kind.bytes.Add(int64(s.weight() - before))
}

func (s *memoryStream) push(p *broker.Publication) {
	stored := *p
	stored.Origin, stored.Shared = nil, false
	if len(s.kept) == cap(s.kept) {
		s.shift()
	}
	s.kept = append(s.kept, stored)
	if s.ledger != nil {
		s.addToLedger(p)
	}
	s.bytes += p.Size()
}

// shift makes room for a publication at the end of kept. If at least half of store is free, kept
// moves to the front of store, so that a stream at its bound allocates nothing more. Otherwise
// store becomes twice as large.
func (s *memoryStream) shift() {
	n, free := len(s.kept), cap(s.store)-cap(s.kept)
	if n == 0 || free < n {
		s.store = make([]broker.Publication, 0, max(1, 2*n))
		s.kept = append(s.store, s.kept...)
		return
	}
	s.kept = append(s.store[:0], s.kept...)
	clear(s.store[n : free+n])
}

// bound discards the publications beyond the bounds of s.keep.
func (s *memoryStream) bound() {
	n, bytes := 0, s.bytes
	tooMuch := func() bool {
		return len(s.kept)-n > s.keep.Messages || s.keep.Bytes > 0 && bytes > s.keep.Bytes
	}
	for n < len(s.kept) && tooMuch() {
		bytes -= s.kept[n].Size()
		n++
	}
	s.drop(n, broker.ReasonOverflow)
}

// expire discards the publications older than s.keep.Age.
func (s *memoryStream) expire(now time.Time) {
	n := 0
	for n < len(s.kept) && s.keep.Age > 0 && now.Sub(s.kept[n].At) >= s.keep.Age {
		n++
	}
	s.drop(n, broker.ReasonExpired)
}

// drop discards the first n publications.
func (s *memoryStream) drop(n int, why broker.Reason) {
	if n == 0 {
		return
	}
	for i := range n {
		s.bytes -= s.kept[i].Size()
	}
	s.floor, s.why = s.kept[n-1].Position.Offset, why
	clear(s.kept[:n])
	if s.kept = s.kept[n:]; len(s.kept) == 0 {
		s.kept, s.store, s.ledger = nil, nil, nil
	}
}

// remember adds an id, and forgets ids that need not be remembered.
func (s *memoryStream) remember(key senderID, now time.Time) {
	if s.ids == nil {
		s.ids = make(map[senderID]uint64)
	}
	s.ids[key] = s.top
	s.idOrder = append(s.idOrder, usedID{key, now})
	for s.mayForget(now) {
		delete(s.ids, s.idOrder[0].senderID)
		s.idOrder = s.idOrder[1:]
	}
}

// mayForget reports whether the oldest id need not be remembered.
func (s *memoryStream) mayForget(now time.Time) bool {
	oldest := s.idOrder[0]
	switch n := len(s.idOrder); {
	case now.Sub(oldest.at) < idTime:
		return false
	default:
		return n > keptIDs || s.ids[oldest.senderID] <= s.floor
	}
}

// read returns the page that q selects.
func (s *memoryStream) read(q broker.Query, now time.Time) broker.Page {
	page := broker.Page{Top: broker.Position{Epoch: s.epoch, Offset: s.top}, Floor: s.floor}
	if s.floor > 0 {
		page.Why = s.why
	}
	from, to := s.find(q.After+1), len(s.kept)
	if q.Before > 0 {
		to = max(from, s.find(q.Before))
	}
	within := s.kept[from:to]
	bytes := 0
	for i := range within {
		p := &within[i]
		if q.Backwards {
			p = &within[len(within)-1-i]
		}
		if p.Expired(now) {
			continue
		}
		bytes += p.Size()
		if n := len(page.Publications); n == q.Limit || n > 0 && bytes > q.Bytes {
			page.More = true
			break
		}
		page.Publications = append(page.Publications, *p)
	}
	return page
}

// find returns the index in kept of the first publication with at least this offset.
func (s *memoryStream) find(offset uint64) int {
	return sort.Search(len(s.kept), func(i int) bool { return s.kept[i].Position.Offset >= offset })
}

// cursor returns the offset up to which reader has acknowledged the stream. A new reader is tracked
// from then on.
func (s *memoryStream) cursor(reader string) uint64 {
	at, known := s.readers[reader]
	if !known {
		if reader != "" {
			at = s.floor
		}
		s.know(reader, at)
	}
	return at
}

// know sets a cursor. Beyond maxReaders it forgets the lowest one.
func (s *memoryStream) know(reader string, at uint64) {
	if s.readers == nil {
		s.readers = make(map[string]uint64)
	}
	if _, known := s.readers[reader]; !known {
		s.names += len(reader)
	}
	if s.readers[reader] = at; len(s.readers) <= maxReaders {
		return
	}
	last := reader
	for other, behind := range s.readers {
		if behind < s.readers[last] {
			last = other
		}
	}
	delete(s.readers, last)
	s.names -= len(last)
}

// ack moves a cursor, and discards the publications that all readers have acknowledged.
func (s *memoryStream) ack(reader string, at broker.Position) error {
	if at.Epoch != s.epoch || at.Offset > s.top {
		return broker.ErrInvalidPosition
	}
	if at.Offset <= s.readers[reader] {
		return nil
	}
	s.know(reader, at.Offset)
	all := at.Offset
	for _, other := range s.readers {
		all = min(all, other)
	}
	s.drop(s.find(all+1), broker.ReasonTaken)
	return nil
}

// memory returns how long the stream is remembered after its last use, if it keeps nothing.
func (s *memoryStream) memory() time.Duration { return max(idleTime, s.keep.Age) }
