package memory

import (
	"sort"
	"sync"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/share"
)

const (
	// idTime is for how long it is known that an id was used in a stream. keptIDs are known for as
	// long as their publications are kept.
	idTime  = 2 * time.Minute
	keptIDs = 1000
	// maxReaders bounds the cursors of a stream.
	maxReaders = 100
	// What a stream takes beside what it keeps, an id that is known and a cursor, in bytes.
	streamBytes = 512
	idBytes     = 192
	cursorBytes = 64
	// idleTime is how long a stream is remembered at least that keeps nothing any more.
	idleTime = 5 * time.Minute
)

// memoryStream is one stream of a [Memory].
type memoryStream struct {
	name  string
	kind  *memoryKind
	epoch string

	mu          sync.Mutex
	kept        []broker.Publication // in the order of their offsets, without gaps
	store       []broker.Publication // the memory of kept
	bytes       int                  // of kept
	top, floor  uint64               // no top: nothing was ever published, and it counts nowhere
	why         broker.Reason        // for floor
	keep        broker.Retention
	subscribers int
	ledger      *share.Ledger[broker.Sender] // nil: it is not half full, or its senders share nothing
	used        time.Time                    // when something was last published, or somebody last subscribed
	dead        bool

	ids     map[senderID]uint64 // offsets
	idOrder []usedID            // the oldest first
	readers map[string]uint64   // cursors
	names   int                 // how long the names of the readers are together
}

// senderID is an id of a message.
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

// take gives p its place and keeps it, unless it is a duplicate. s.mu is held, as for all of the
// methods.
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
	return broker.Published{Position: p.Position, Prev: p.Prev}
}

// hasShare reports whether the sender of p may have one more. As long as the stream is not half
// full, it may, and nothing is counted.
func (s *memoryStream) hasShare(p *broker.Publication, now time.Time) bool {
	size := p.Size()
	bounds := share.Bounds{Messages: int64(p.Keep.Messages), Bytes: int64(p.Keep.Bytes)}
	kept := share.Usage{Messages: int64(len(s.kept)), Bytes: int64(s.bytes)}
	if bounds.Leaves(kept, kept, int64(size)) {
		s.ledger = nil
		return true
	}
	if s.ledger == nil {
		s.ledger = share.NewLedger[broker.Sender](s.kept[0].Position.Offset)
		for i := range s.kept {
			s.enter(&s.kept[i])
		}
	}
	s.ledger.Pass(s.floor, now)
	return s.ledger.Leaves(p.Message.From(), size, bounds)
}

// enter notes in the ledger what is kept.
func (s *memoryStream) enter(p *broker.Publication) {
	until := share.Expiry(p.At.UnixNano(), p.Message.TTL, s.keep.Age)
	s.ledger.Add(p.Message.From(), p.Size(), until)
}

// weight is what it takes, in bytes.
func (s *memoryStream) weight() int {
	counted := 0
	if s.ledger != nil {
		counted = share.EntryBytes * s.ledger.Len()
	}
	return streamBytes + len(s.name) + s.bytes + idBytes*len(s.idOrder) +
		cursorBytes*len(s.readers) + s.names + counted
}

// weighed runs what changes the stream, and counts what that does to its weight.
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
		s.enter(p)
	}
	s.bytes += p.Size()
}

// shift makes room behind what is kept: by moving it to the front of its memory, if as much is free
// there, so that a stream that keeps as many as it may needs no more; or else to twice as much.
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

// bound forgets what is too much.
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

// expire forgets what is too old.
func (s *memoryStream) expire(now time.Time) {
	n := 0
	for n < len(s.kept) && s.keep.Age > 0 && now.Sub(s.kept[n].At) >= s.keep.Age {
		n++
	}
	s.drop(n, broker.ReasonExpired)
}

// drop forgets the first n.
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

// remember notes an id, and forgets others.
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

// mayForget reports whether the oldest id need not be known any more.
func (s *memoryStream) mayForget(now time.Time) bool {
	oldest := s.idOrder[0]
	switch n := len(s.idOrder); {
	case now.Sub(oldest.at) < idTime:
		return false
	default:
		return n > keptIDs || s.ids[oldest.senderID] <= s.floor
	}
}

// read returns what q asks for.
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

// find returns where the first publication is whose offset is at least this.
func (s *memoryStream) find(offset uint64) int {
	return sort.Search(len(s.kept), func(i int) bool { return s.kept[i].Position.Offset >= offset })
}

// cursor returns how far a reader has come, who is known from then on.
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

// know notes a cursor. Beyond the bound the one that is furthest behind is forgotten.
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

// ack moves a cursor, and forgets what nobody has to read any more.
func (s *memoryStream) ack(reader string, at broker.Position) error {
	if at.Epoch != s.epoch || at.Offset > s.top {
		return broker.ErrPosition
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

// memory is how long the stream is remembered when nothing is kept.
func (s *memoryStream) memory() time.Duration { return max(idleTime, s.keep.Age) }
