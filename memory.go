package realtime

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// MemoryOptions configures [NewMemory]. Zero values are the defaults, negative ones without bound.
type MemoryOptions struct {
	// Bytes bounds what all streams keep together, as [Publication.Size] counts, with some hundred
	// bytes for each stream and each id: 256 MiB. Beyond it the rooms to which nothing was published
	// for the longest time lose what they keep, those that nobody is in are forgotten, and
	// publications to inboxes are refused with ErrFull.
	Bytes int
	// Inboxes bounds how many users have something kept for them: 100,000. Beyond it those to
	// others are refused with ErrFull.
	Inboxes int
}

const (
	sweepInterval = time.Minute
	// evictTo is how full memory is, of 10, once rooms have lost what they keep.
	evictTo = 9
	// evictPause is how long it is left alone if not enough could be forgotten: to look takes long.
	evictPause = time.Second
)

// Memory is the [Broker] that keeps streams in the memory of this process, and loses them with it.
type Memory struct {
	maxBytes, maxInboxes int64
	streams              *shards[*memoryStream]
	bytes, inboxes       atomic.Int64
	evicting             sync.Mutex // held while something is forgotten; guards the next two

	evictAfter, forgetAfter time.Time

	mu      sync.RWMutex // of the rest; held for reading while something is delivered
	sink    Sink
	closed  bool
	sweeper *time.Timer // nil before the first stream
}

// NewMemory returns a broker that keeps streams in memory, nil for the default options. One
// Manager can use it.
func NewMemory(o *MemoryOptions) *Memory {
	if o == nil {
		o = &MemoryOptions{}
	}
	bytes, inboxes := o.Bytes, o.Inboxes
	number(&bytes, 256<<20)
	number(&inboxes, 100_000)
	return &Memory{
		maxBytes: int64(bytes), maxInboxes: int64(inboxes), streams: newShards[*memoryStream](),
	}
}

// Local reports true, see [Broker].
func (b *Memory) Local() bool { return true }

// Open starts delivery.
func (b *Memory) Open(_ context.Context, s Sink) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sink != nil {
		return errors.New("realtime: the broker serves another Manager")
	}
	b.sink = s
	return nil
}

// Close forgets everything.
func (b *Memory) Close(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if b.sweeper != nil {
		b.sweeper.Stop()
	}
	return nil
}

// use keeps the broker open until done is called.
func (b *Memory) use(ctx context.Context) (done func(), err error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	b.mu.RLock()
	if b.closed {
		b.mu.RUnlock()
		return nil, ErrClosed
	}
	return b.mu.RUnlock, nil
}

// enter locks a stream, which begins if it is not there. b.mu is held for reading.
func (b *Memory) enter(name string) *memoryStream {
	for {
		fresh := false
		s := b.streams.getOrPut(name, func() *memoryStream {
			fresh = true
			return newMemoryStream(name)
		})
		if fresh {
			b.began(s)
		}
		s.mu.Lock()
		if !s.dead {
			return s
		}
		s.mu.Unlock()
		b.streams.drop(name, s)
	}
}

// began counts a stream, and makes sure that somebody looks after it.
func (b *Memory) began(s *memoryStream) {
	b.bytes.Add(streamBytes)
	if s.inbox {
		b.inboxes.Add(1)
	}
	b.evicting.Lock()
	defer b.evicting.Unlock()
	if b.sweeper == nil {
		b.sweeper = time.AfterFunc(sweepInterval, b.sweep)
	}
}

// find locks a stream, or returns nil if it is not there.
func (b *Memory) find(name string) *memoryStream {
	s, ok := b.streams.get(name)
	if !ok {
		return nil
	}
	s.mu.Lock()
	if s.dead {
		s.mu.Unlock()
		return nil
	}
	return s
}

// Publish keeps p and delivers it while it holds the stream's lock, which is what its order is.
func (b *Memory) Publish(ctx context.Context, p Publication) (Published, error) {
	done, err := b.use(ctx)
	if err != nil {
		return Published{}, err
	}
	defer done()
	if p.Stream == "" {
		b.sink.Deliver(p)
		return Published{}, nil
	}
	if err := b.makeRoom(p.Stream); err != nil {
		return Published{}, err
	}
	s := b.enter(p.Stream)
	defer s.mu.Unlock()
	before := s.weight()
	out := s.take(&p, time.Now())
	b.bytes.Add(int64(s.weight() - before))
	if !out.Duplicate && s.subscribers > 0 {
		b.sink.Deliver(p)
	}
	return out, nil
}

// Subscribe has the stream delivered.
func (b *Memory) Subscribe(ctx context.Context, stream string) (Position, error) {
	done, err := b.use(ctx)
	if err != nil {
		return Position{}, err
	}
	defer done()
	s := b.enter(stream)
	defer s.mu.Unlock()
	s.subscribers++
	return Position{s.epoch, s.top}, nil
}

// Unsubscribe undoes one Subscribe.
func (b *Memory) Unsubscribe(ctx context.Context, stream string) error {
	done, err := b.use(ctx)
	if err != nil {
		return err
	}
	defer done()
	if s := b.find(stream); s != nil {
		s.subscribers = max(0, s.subscribers-1)
		s.used = time.Now()
		s.mu.Unlock()
	}
	return nil
}

// Read returns a part of a stream.
func (b *Memory) Read(ctx context.Context, stream string, q Query) (Page, error) {
	done, err := b.use(ctx)
	if err != nil {
		return Page{}, err
	}
	defer done()
	s := b.find(stream)
	if s == nil {
		return Page{}, nil
	}
	defer s.mu.Unlock()
	b.trim(s, time.Now())
	return s.read(q.Resolved(), time.Now()), nil
}

// Cursor returns how far a reader has come.
func (b *Memory) Cursor(ctx context.Context, stream, reader string) (Position, error) {
	done, err := b.use(ctx)
	if err != nil {
		return Position{}, err
	}
	defer done()
	s := b.enter(stream)
	defer s.mu.Unlock()
	return Position{s.epoch, s.cursor(reader)}, nil
}

// Ack moves a reader's cursor.
func (b *Memory) Ack(ctx context.Context, stream, reader string, at Position) error {
	done, err := b.use(ctx)
	if err != nil {
		return err
	}
	defer done()
	s := b.find(stream)
	if s == nil {
		return ErrPosition
	}
	defer s.mu.Unlock()
	before := s.weight()
	err = s.ack(reader, at)
	b.bytes.Add(int64(s.weight() - before))
	return err
}

// trim forgets what is too old. s is locked.
func (b *Memory) trim(s *memoryStream, now time.Time) {
	before := s.weight()
	s.expire(now)
	b.bytes.Add(int64(s.weight() - before))
}

// makeRoom sees to it that one more publication may be kept in a stream.
func (b *Memory) makeRoom(stream string) error {
	_, inbox := streamUser(stream)
	if b.maxBytes > 0 && b.bytes.Load() >= b.maxBytes {
		b.evict()
		if inbox && b.bytes.Load() >= b.maxBytes {
			return ErrFull
		}
	}
	if !inbox || b.maxInboxes == 0 || b.inboxes.Load() < b.maxInboxes {
		return nil
	}
	if _, known := b.streams.get(stream); known {
		return nil
	}
	b.forgetInboxes()
	if b.inboxes.Load() >= b.maxInboxes {
		return ErrFull
	}
	return nil
}

// forgetInboxes forgets those that are empty, because there are too many.
func (b *Memory) forgetInboxes() {
	b.evicting.Lock()
	defer b.evicting.Unlock()
	now := time.Now()
	if b.inboxes.Load() < b.maxInboxes || now.Before(b.forgetAfter) {
		return
	}
	b.forget(func(s *memoryStream) bool { return s.inbox })
	if b.inboxes.Load() >= b.maxInboxes {
		b.forgetAfter = now.Add(evictPause)
	}
}

// evict takes what they keep from the rooms to which nothing was published for the longest time,
// and forgets the streams that nobody needs.
func (b *Memory) evict() {
	b.evicting.Lock()
	defer b.evicting.Unlock()
	now := time.Now()
	if b.bytes.Load() < b.maxBytes || now.Before(b.evictAfter) { // somebody else has, or could not
		return
	}
	type stream struct {
		*memoryStream
		used time.Time
	}
	var streams []stream
	for _, s := range b.streams.snapshot() {
		s.mu.Lock()
		if !s.inbox || len(s.kept) == 0 {
			streams = append(streams, stream{s, s.used})
		}
		s.mu.Unlock()
	}
	slices.SortFunc(streams, func(x, y stream) int { return x.used.Compare(y.used) })
	for _, s := range streams {
		if b.bytes.Load() <= b.maxBytes/10*evictTo {
			return
		}
		s.mu.Lock()
		if before := s.weight(); !s.inbox {
			s.drop(len(s.kept), ReasonOverflow)
			b.bytes.Add(int64(s.weight() - before))
		}
		if now.Sub(s.memoryStream.used) >= idTime {
			b.end(s.memoryStream)
		}
		s.mu.Unlock()
	}
	b.evictAfter = now.Add(evictPause)
}

// sweep forgets what is too old, and streams that nobody has used for long.
func (b *Memory) sweep() {
	done, err := b.use(context.Background())
	if err != nil {
		return
	}
	defer done()
	now := time.Now()
	for _, s := range b.streams.snapshot() {
		s.mu.Lock()
		b.trim(s, now)
		s.mu.Unlock()
	}
	b.forget(func(s *memoryStream) bool { return now.Sub(s.used) > s.memory() })
	b.sweeper.Reset(sweepInterval)
}

// forget drops streams that nobody needs and that may go.
func (b *Memory) forget(may func(*memoryStream) bool) {
	for _, s := range b.streams.snapshot() {
		s.mu.Lock()
		if may(s) {
			b.end(s)
		}
		s.mu.Unlock()
	}
}

// end drops a stream that keeps nothing, if nobody is subscribed to it. It is locked.
func (b *Memory) end(s *memoryStream) {
	if s.subscribers > 0 || len(s.kept) > 0 || s.dead {
		return
	}
	s.dead = true
	b.bytes.Add(int64(-streamBytes - s.weight()))
	if s.inbox {
		b.inboxes.Add(-1)
	}
	b.streams.drop(s.name, s)
}
