// Package memory keeps streams in the memory of one process. A Manager without another broker uses
// it.
package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/defaults"
	"github.com/realtime-go/realtime/internal/shardmap"
)

// Options configures [New]. In each field, zero means the default and negative means without bound.
// Rooms and inboxes have separate bounds: messages to rooms take no place from inboxes, nor
// messages to inboxes from rooms.
type Options struct {
	// Bytes bounds the memory of all rooms together, in bytes: the publications as
	// [broker.Publication.Size] counts them, the names, some hundred bytes for each room and each
	// cursor, and 192 for each id. Default: 128 MiB. Beyond it rooms lose their kept publications:
	// first rooms without a subscription, and of these first the one that was used least recently.
	// If that is not enough, because ids are remembered for two minutes, publications to rooms that
	// keep nothing yet are refused with ErrFull; beyond a quarter more, publications to any room.
	Bytes int
	// InboxBytes bounds the memory of all inboxes together in the same way. Default: the value of
	// Bytes. Beyond it publications to inboxes are refused with ErrFull. Publications already taken
	// are kept.
	InboxBytes int
	// Inboxes bounds how many users have an inbox with publications. Default: 100,000. Beyond it
	// publications to other users are refused with ErrFull.
	Inboxes int
}

const (
	sweepInterval = time.Minute
	// evictTo is how full memory is after an eviction, in tenths.
	evictTo = 9
	// evictPause is the pause after an eviction that did not free enough: an eviction takes long.
	evictPause = time.Second
)

// Broker is the [broker.Broker] that keeps streams in the memory of this process, and loses them
// with it.
//
// A stream without a publication takes memory only while there is a subscription to it: about 350
// bytes and its name.
type Broker struct {
	rooms, inboxes *memoryKind
	streams        *shardmap.Map[*memoryStream]
	epochs         epochs

	mu     sync.RWMutex // guards sink and closed; held for reading during a delivery
	sink   broker.Sink
	closed bool

	sweeping sync.Mutex
	sweeper  *time.Timer // nil before the first publication
}

// New returns a broker that keeps streams in memory. Nil means the default options. One broker
// serves one Manager, which closes it: for another Manager it returns errors.
func New(o *Options) *Broker {
	if o == nil {
		o = &Options{}
	}
	bytes, inboxBytes, inboxes := o.Bytes, cmp.Or(o.InboxBytes, o.Bytes), o.Inboxes
	defaults.Set(&bytes, 128<<20)
	defaults.Set(&inboxBytes, 128<<20)
	defaults.Set(&inboxes, 100_000)
	return &Broker{
		rooms:   &memoryKind{maxBytes: int64(bytes)},
		inboxes: &memoryKind{maxBytes: int64(inboxBytes), maxStreams: int64(inboxes)},
		streams: shardmap.New[*memoryStream](), epochs: newEpochs(),
	}
}

// Open starts delivery.
func (b *Broker) Open(_ context.Context, s broker.Sink) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sink != nil {
		return errors.New("realtime: the broker serves another Manager")
	}
	b.sink = s
	return nil
}

// Close ends delivery. The broker cannot be used again.
func (b *Broker) Close(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.sweeping.Lock()
	defer b.sweeping.Unlock()
	if b.sweeper != nil {
		b.sweeper.Stop()
	}
	return nil
}

// use keeps the broker open until done is called. It returns an error if ctx has ended or the
// broker is closed.
func (b *Broker) use(ctx context.Context) (done func(), err error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	b.mu.RLock()
	if b.closed {
		b.mu.RUnlock()
		return nil, broker.ErrClosed
	}
	return b.mu.RUnlock, nil
}

// lock returns the stream, locked, and creates it if it does not exist. b.mu is held for reading.
func (b *Broker) lock(name string) *memoryStream {
	for {
		s := b.streams.GetOrPut(name, func() *memoryStream {
			return newMemoryStream(name, b.epochs.of(name), b.kind(name))
		})
		s.mu.Lock()
		if !s.dead {
			return s
		}
		s.mu.Unlock()
		b.streams.CompareAndDelete(name, s)
	}
}

// kind returns the kind to which a stream belongs.
func (b *Broker) kind(stream string) *memoryKind {
	if _, inbox := broker.StreamUser(stream); inbox {
		return b.inboxes
	}
	return b.rooms
}

// began starts the sweeper, if it is not running.
func (b *Broker) began() {
	b.sweeping.Lock()
	defer b.sweeping.Unlock()
	if b.sweeper == nil {
		b.sweeper = time.AfterFunc(sweepInterval, b.sweep)
	}
}

// find returns the stream, locked, or nil if it does not exist.
func (b *Broker) find(name string) *memoryStream {
	s, ok := b.streams.Get(name)
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

// Publish keeps the parts and delivers them while it holds the locks of all their streams: this
// gives streams that share messages one order.
func (b *Broker) Publish(
	ctx context.Context, parts ...broker.Publication,
) ([]broker.Published, error) {
	done, err := b.use(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	for _, k := range []*memoryKind{b.rooms, b.inboxes} {
		if err := b.makeRoom(k, parts); err != nil {
			return nil, err
		}
	}
	var few [4]*memoryStream
	streams, err := b.lockAll(few[:0], parts)
	if err != nil {
		return nil, err
	}
	defer unlockAll(streams)
	out := make([]broker.Published, len(parts))
	now := time.Now()
	for i, s := range streams {
		if s == nil {
			continue
		}
		if s.top == 0 {
			b.began()
		}
		s.weighed(func() { out[i] = s.take(&parts[i], now) })
	}
	for i, s := range streams {
		if s == nil || !out[i].Duplicate && !out[i].Full && s.subscribers > 0 {
			b.sink.Deliver(parts[i])
		}
	}
	return out, nil
}

// lockAll locks the streams of the parts in the order of their names, and appends them in the
// order of the parts, with nil for a part without a stream.
func (b *Broker) lockAll(
	streams []*memoryStream, parts []broker.Publication,
) ([]*memoryStream, error) {
	if len(parts) == 1 {
		if parts[0].Stream == "" {
			return append(streams, nil), nil
		}
		return append(streams, b.lock(parts[0].Stream)), nil
	}
	order := make([]int, len(parts))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return cmp.Compare(parts[i].Stream, parts[j].Stream) })
	for n, i := range order {
		if n > 0 && parts[i].Stream == parts[order[n-1]].Stream {
			return nil, fmt.Errorf("realtime: two parts of a message in stream %q", parts[i].Stream)
		}
	}
	streams = append(streams, make([]*memoryStream, len(parts))...)
	for _, i := range order {
		if parts[i].Stream != "" {
			streams[i] = b.lock(parts[i].Stream)
		}
	}
	return streams, nil
}

func unlockAll(streams []*memoryStream) {
	for _, s := range streams {
		if s != nil {
			s.mu.Unlock()
		}
	}
}

// Subscribe starts delivery of the stream.
func (b *Broker) Subscribe(ctx context.Context, stream string) (broker.Position, error) {
	done, err := b.use(ctx)
	if err != nil {
		return broker.Position{}, err
	}
	defer done()
	s := b.lock(stream)
	defer s.mu.Unlock()
	s.subscribers++
	return broker.Position{Epoch: s.epoch, Offset: s.top}, nil
}

// Unsubscribe ends one Subscribe.
func (b *Broker) Unsubscribe(ctx context.Context, stream string) error {
	done, err := b.use(ctx)
	if err != nil {
		return err
	}
	defer done()
	if s := b.find(stream); s != nil {
		s.subscribers = max(0, s.subscribers-1)
		if s.used = time.Now(); s.top == 0 {
			b.end(s)
		}
		s.mu.Unlock()
	}
	return nil
}

// Read returns a part of a stream.
func (b *Broker) Read(ctx context.Context, stream string, q broker.Query) (broker.Page, error) {
	done, err := b.use(ctx)
	if err != nil {
		return broker.Page{}, err
	}
	defer done()
	s := b.find(stream)
	if s == nil {
		return broker.Page{}, nil
	}
	defer s.mu.Unlock()
	s.weighed(func() { s.expire(time.Now()) })
	return s.read(q.Resolved(), time.Now()), nil
}

// Cursor returns the position up to which a reader has acknowledged the stream.
func (b *Broker) Cursor(ctx context.Context, stream, reader string) (broker.Position, error) {
	done, err := b.use(ctx)
	if err != nil {
		return broker.Position{}, err
	}
	defer done()
	s := b.find(stream)
	if s == nil {
		return broker.Position{}, nil
	}
	defer s.mu.Unlock()
	at := broker.Position{Epoch: s.epoch}
	s.weighed(func() { at.Offset = s.cursor(reader) })
	return at, nil
}

// Ack moves a reader's cursor.
func (b *Broker) Ack(ctx context.Context, stream, reader string, at broker.Position) error {
	done, err := b.use(ctx)
	if err != nil {
		return err
	}
	defer done()
	s := b.find(stream)
	if s == nil {
		return broker.ErrInvalidPosition
	}
	defer s.mu.Unlock()
	s.weighed(func() { err = s.ack(reader, at) })
	return err
}

// makeRoom frees memory for the parts of this kind, or returns ErrFull.
func (b *Broker) makeRoom(k *memoryKind, parts []broker.Publication) error {
	n := 0
	for i := range parts {
		if parts[i].Stream != "" && b.kind(parts[i].Stream) == k {
			n++
		}
	}
	switch {
	case n == 0:
		return nil
	case k.full() && k == b.inboxes:
		if b.forgetUnused(k, n); k.full() {
			return broker.ErrFull
		}
	case k.full():
		if b.evict(); k.full() && (k.overfull() || b.unknown(k, parts) > 0) {
			return broker.ErrFull
		}
	}
	if k.crowded(n) {
		if n = b.unknown(k, parts); n > 0 && k.crowded(n) {
			if b.forgetUnused(k, n); k.crowded(n) {
				return broker.ErrFull
			}
		}
	}
	return nil
}

// unknown returns how many of the parts are of this kind and in streams that keep nothing yet.
func (b *Broker) unknown(k *memoryKind, parts []broker.Publication) (n int) {
	for i := range parts {
		name := parts[i].Stream
		if name == "" || b.kind(name) != k {
			continue
		}
		s := b.find(name)
		if s == nil {
			n++
			continue
		}
		if s.top == 0 && s.subscribers == 0 {
			n++
		}
		s.mu.Unlock()
	}
	return n
}

// forgetUnused forgets inboxes that keep nothing, to make room for n more.
func (b *Broker) forgetUnused(k *memoryKind, n int) {
	k.evicting.Lock()
	defer k.evicting.Unlock()
	now := time.Now()
	// Another goroutine may have just evicted, or failed to free enough.
	if !k.full() && !k.crowded(n) || now.Before(k.evictAfter) {
		return
	}
	b.forget(func(s *memoryStream) bool {
		return s.kind == k && (k.crowded(n) || now.Sub(s.used) >= idTime)
	})
	if k.full() || k.crowded(n) {
		k.evictAfter = now.Add(evictPause)
	}
}

// evict discards the kept publications of the least used rooms, and forgets those rooms that have
// no subscription.
func (b *Broker) evict() {
	k := b.rooms
	k.evicting.Lock()
	defer k.evicting.Unlock()
	now := time.Now()
	// Another goroutine may have just evicted, or failed to free enough.
	if !k.full() || now.Before(k.evictAfter) {
		return
	}
	for _, s := range b.leastUsed(k) {
		if k.bytes.Load() <= k.maxBytes/10*evictTo {
			return
		}
		s.mu.Lock()
		s.weighed(func() { s.drop(len(s.kept), broker.ReasonOverflow) })
		if now.Sub(s.used) >= idTime {
			b.end(s)
		}
		s.mu.Unlock()
	}
	k.evictAfter = now.Add(evictPause)
}

// leastUsed returns the streams of a kind: streams without a subscription first, and of these first
// the one that was used least recently.
func (b *Broker) leastUsed(k *memoryKind) []*memoryStream {
	type stream struct {
		*memoryStream
		live int
		used time.Time
	}
	var all []stream
	for _, s := range b.streams.Values() {
		s.mu.Lock()
		if s.kind == k && s.top > 0 {
			all = append(all, stream{s, min(s.subscribers, 1), s.used})
		}
		s.mu.Unlock()
	}
	slices.SortFunc(all, func(x, y stream) int {
		return cmp.Or(cmp.Compare(x.live, y.live), x.used.Compare(y.used))
	})
	streams := make([]*memoryStream, len(all))
	for i := range all {
		streams[i] = all[i].memoryStream
	}
	return streams
}

// sweep discards expired publications, and forgets streams that were not used for a long time.
func (b *Broker) sweep() {
	done, err := b.use(context.Background())
	if err != nil {
		return
	}
	defer done()
	now := time.Now()
	for _, s := range b.streams.Values() {
		s.mu.Lock()
		s.weighed(func() { s.expire(now) })
		s.mu.Unlock()
	}
	b.forget(func(s *memoryStream) bool { return now.Sub(s.used) > s.memory() })
	b.sweeping.Lock()
	defer b.sweeping.Unlock()
	b.sweeper.Reset(sweepInterval)
}

// forget forgets the streams for which may is true, if they keep nothing and have no subscription.
func (b *Broker) forget(may func(*memoryStream) bool) {
	for _, s := range b.streams.Values() {
		s.mu.Lock()
		if may(s) {
			b.end(s)
		}
		s.mu.Unlock()
	}
}

// end forgets s if it keeps nothing and has no subscription. s is locked.
func (b *Broker) end(s *memoryStream) {
	if s.subscribers > 0 || len(s.kept) > 0 || s.dead {
		return
	}
	s.dead = true
	if s.top > 0 {
		s.kind.bytes.Add(int64(-s.weight()))
		s.kind.streams.Add(-1)
		b.epochs.ended(s.name)
	}
	b.streams.CompareAndDelete(s.name, s)
}
