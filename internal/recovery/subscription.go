package recovery

import (
	"context"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/wire"
)

const (
	// Bounds of the publications collected for a subscription that reads the end of its stream,
	// which may take long.
	maxCollected      = 256
	maxCollectedBytes = 256 << 10
	// maxUnreported is after how many publications that were not for it a client is told its
	// position. Before that the next publication for it tells.
	maxUnreported = 16
	// fetched is the queue policy of publications that are read: one that finds no space comes
	// later, and is no reason to end the connection or to drop another message.
	fetched = sendqueue.DropNewest
)

// Subscriber is the connection of a subscription, as a member of a room or with the inbox of its
// user. Charge, SetNeedsCheck and Acknowledge are called with the lock of the topic held, the other
// methods with or without it. Only Restart may block.
type Subscriber interface {
	// Context ends with the connection.
	Context() context.Context
	// Ended reports whether the connection has ended.
	Ended() bool
	// Fail ends the connection because of an error of the broker.
	Fail(err error)
	// Excluded reports whether the target excludes the connection or its user.
	Excluded(t *broker.Target) bool
	// Charge counts bytes that the client has asked for.
	Charge(bytes int)
	// SetNeedsCheck says whether a delivery must call the methods of the subscription in place
	// of pushing to its queue only.
	SetNeedsCheck(yes bool)
	// Restart returns the position at which an inbox begins after its epoch has changed. It is
	// not called for rooms.
	Restart(ctx context.Context) (broker.Position, error)
	// Acknowledge begins to acknowledge what Subscription.Written returns, for a client that does
	// not do so itself. It is called if Config.Acknowledge was set.
	Acknowledge()
}

// Config describes a subscription.
type Config struct {
	Topic      *Topic
	Subscriber Subscriber
	Queue      *sendqueue.Queue
	Protocol   wire.Protocol
	Lagging    *Lagging        // of the connection
	At         broker.Position // where an inbox begins
	// Acknowledge says that what is written to the connection counts as taken.
	Acknowledge bool
}

// Subscription is the position of one connection in a topic, whose lock guards it. The caller
// holds that lock where a method does not say otherwise.
type Subscription struct {
	fetcher     *Fetcher
	topic       *Topic
	subscriber  Subscriber
	queue       *sendqueue.Queue
	protocol    wire.Protocol
	siblings    *Lagging // of the same connection
	acknowledge bool     // see Config

	closed bool

	reported   uint64 // up to there the client knows that it has everything for it
	unreported int    // publications after reported that were not for the client
	dropped    bool   // some of these were for the client: no space in the queue, or too large

	lagging  bool            // it gets only what it missed, until it has caught up
	asked    bool            // the client asked for what it gets, and pays for the first page
	position broker.Position // if it lags: the client has everything up to there
	ahead    bool            // position is after the last publication delivered here

	collecting bool // publications delivered while the end of the stream is read
	collected  []broker.Publication
	size       int // of collected, in bytes

	first   uint64 // of an inbox: the offset of the first publication given
	firstAt uint64 // how many frames of the queue must be written for that one to be

	written   broker.Position // the last publication given, if Acknowledge is set
	writtenAt uint64          // how many frames of the queue must be written for that one to be
	acking    bool
}

// Subscribe returns a subscription, which is live.
func (k *Fetcher) Subscribe(c Config) *Subscription {
	return &Subscription{
		fetcher: k, topic: c.Topic, subscriber: c.Subscriber, queue: c.Queue, protocol: c.Protocol,
		siblings: c.Lagging, acknowledge: c.Acknowledge, position: c.At, reported: c.At.Offset,
	}
}

// IsLagging reports whether the subscription lags. Then a delivery calls Defer.
func (s *Subscription) IsLagging() bool { return s.lagging }

// Start begins at the position of the configuration.
func (s *Subscription) Start() {
	if s.position != s.topic.last || s.topic.lost() {
		s.lag(s.position, s.position.Offset)
		s.Fetch()
	}
}

// Position returns where an inbox that was not started begins.
func (s *Subscription) Position() broker.Position { return s.position }

// Top returns the offset of the newest publication, or its own position if that is after it. The
// caller does not hold the lock.
func (s *Subscription) Top() uint64 {
	s.topic.mu.Lock()
	defer s.topic.mu.Unlock()
	return max(s.position.Offset, s.topic.last.Offset)
}

// Begin moves the subscription to a position, or leaves it where it is if that is nil. asked says
// that the client pays for what it gets. Begin returns where the subscription is, and the offset of
// the newest publication. The caller then calls Fetch.
func (s *Subscription) Begin(start *broker.Position, asked bool) (at broker.Position, top uint64) {
	t := s.topic
	at = t.last
	switch {
	case start != nil:
		if at = *start; at != t.last || s.lagging || t.lost() {
			s.lag(at, at.Offset)
			s.asked = asked
		}
	case s.lagging:
		at = s.position
	case t.lost():
		s.lag(at, at.Offset)
	case s.unreported > 0: // a later report begins at what the client knows
		at.Offset = s.reported
	}
	return at, max(at.Offset, t.last.Offset)
}

// Fetch begins to read what the subscription missed, if it lags. Other locks may be held.
func (s *Subscription) Fetch() {
	if s.lagging {
		s.fetcher.fetch(s)
	}
}

// lag moves the subscription back to a position. reported is the offset that the client knows;
// what is between the two was not for it, or it has that from another stream.
func (s *Subscription) lag(at broker.Position, reported uint64) {
	if s.closed {
		return
	}
	s.lagging, s.position, s.reported, s.asked = true, at, reported, false
	s.unreported, s.dropped, s.ahead = 0, false, false
	s.collect(false)
	s.subscriber.SetNeedsCheck(true)
}

// caughtUp makes the subscription live.
func (s *Subscription) caughtUp() {
	s.lagging, s.ahead, s.unreported = false, false, 0
	s.collect(false)
	unreported := s.reported != s.topic.last.Offset
	if s.subscriber.SetNeedsCheck(unreported); unreported {
		s.unreported = 1
	}
}

// Leave ends the subscription.
func (s *Subscription) Leave() {
	s.closed = true
	s.collect(false)
	s.siblings.remove(s)
}

// collect begins or ends to collect publications.
func (s *Subscription) collect(yes bool) { s.collecting, s.collected, s.size = yes, nil, 0 }

// Defer takes a publication that the subscription, which lags, gets later. key is that of a union,
// and had says that the connection has p from another stream.
func (s *Subscription) Defer(p *broker.Publication, key uint64, had bool) {
	if s.ahead {
		s.meet(p)
		return
	}
	if key != 0 && had { // the connection is going to read it
		s.fetcher.Gave(s.siblings, key)
	}
	s.add(p)
}

// add collects p, as long as no publication is missing and it is not too much.
func (s *Subscription) add(p *broker.Publication) {
	if !s.collecting {
		return
	}
	n := len(s.collected)
	gap := n > 0 && !p.Follows(s.collected[n-1].Position)
	if s.size += p.Size(); gap || n == maxCollected || s.size > maxCollectedBytes {
		s.collect(false)
		return
	}
	s.collected = append(s.collected, *p)
}

// meet is Defer of a subscription that is ahead.
func (s *Subscription) meet(p *broker.Publication) {
	switch {
	case p.Position == s.position:
		s.topic.last = p.Position // as it will be for all
		s.caughtUp()
	case p.Position.Epoch != s.position.Epoch || p.Position.Offset > s.position.Offset:
		s.ahead = false
		s.Fetch()
	}
}

// Skip notes a publication that a live subscription does not get from this topic. has says that
// the client is not excluded but has the publication from another stream.
func (s *Subscription) Skip(p *broker.Publication, has bool) {
	s.skip(p, false)
	if has {
		s.settled(p.Position)
	}
	if s.unreported >= maxUnreported && s.Report(p.Position.Offset) {
		s.subscriber.SetNeedsCheck(false)
	}
}

func (s *Subscription) skip(p *broker.Publication, dropped bool) {
	if s.unreported == 0 {
		s.reported = p.Prev
		s.subscriber.SetNeedsCheck(true)
	}
	s.unreported++
	s.dropped = s.dropped || dropped
}

// Miss notes a publication for which the queue of a live subscription had no space.
func (s *Subscription) Miss(p *broker.Publication) {
	if !s.topic.Policy.CatchUp {
		s.skip(p, true)
		return
	}
	reported := p.Prev
	if s.unreported > 0 {
		reported = s.reported
	}
	s.lag(broker.Position{Epoch: p.Position.Epoch, Offset: p.Prev}, reported)
	s.Fetch()
}

// Delivered notes that a live subscription was given a publication after Report.
func (s *Subscription) Delivered(at broker.Position) {
	s.gave(at)
	s.subscriber.SetNeedsCheck(false)
}

// Reread makes the subscription read on after publications may have been lost.
func (s *Subscription) Reread() {
	switch at := s.topic.last; {
	case s.lagging:
		s.ahead = false
	case s.dropped: // the dropped publications come now
		s.lag(broker.Position{Epoch: at.Epoch, Offset: s.reported}, s.reported)
	case s.unreported > 0:
		s.lag(at, s.reported)
	default:
		s.lag(at, at.Offset)
	}
	s.Fetch()
}

// Report moves the position that the client knows to offset: with a position frame, or with a
// skipped frame if publications for it were dropped. It reports false if the queue has no space for
// that.
func (s *Subscription) Report(offset uint64) bool {
	return s.report(offset, s.topic.Policy.Queue)
}

func (s *Subscription) report(offset uint64, policy sendqueue.Policy) bool {
	if s.reported != offset && s.protocol == wire.ProtoV1 {
		at := broker.Position{Epoch: s.topic.last.Epoch, Offset: offset}
		frame := wire.PositionFrame(s.topic.Room, at, "")
		if s.dropped {
			frame = wire.SkippedFrame(s.topic.Room, s.reported, at)
		}
		if !s.push(frame, policy) {
			return false
		}
	}
	s.reported, s.unreported, s.dropped = offset, 0, false
	return true
}

// push gives the client a frame of its own, if its queue has space.
func (s *Subscription) push(frame *sendqueue.Frame, policy sendqueue.Policy) bool {
	cs := s.fetcher.counters
	cs.Add(metrics.Matched, 1)
	out := s.queue.Push(frame, s.topic.Policy.Priority, policy)
	cs.Queues.Budget.Settle(frame)
	return out == sendqueue.Queued
}

// gave notes that the client was given a publication.
func (s *Subscription) gave(at broker.Position) {
	s.reported = at.Offset
	if s.topic.Room == "" && s.first == 0 {
		s.first, s.firstAt = at.Offset, s.queue.Counts().Through()
	}
	s.settled(at)
}

// settled notes that the client was given everything up to a position that is for it, here or from
// another stream. Once that is written, it counts as taken if the client does not acknowledge.
func (s *Subscription) settled(at broker.Position) {
	if !s.acknowledge {
		return
	}
	s.written, s.writtenAt = at, s.queue.Counts().Through()
	if !s.acking {
		s.acking = true
		s.subscriber.Acknowledge()
	}
}

// Written returns the position to acknowledge, and how many frames of the queue must be written
// before. The caller does not hold the lock.
func (s *Subscription) Written() (at broker.Position, through uint64) {
	s.topic.mu.Lock()
	defer s.topic.mu.Unlock()
	return s.written, s.writtenAt
}

// Acknowledged notes that a position was acknowledged, and reports whether there is another one.
// The caller does not hold the lock.
func (s *Subscription) Acknowledged(at broker.Position) (more bool) {
	s.topic.mu.Lock()
	defer s.topic.mu.Unlock()
	s.acking = s.written != at
	return s.acking
}

// Given returns the position that the client of an inbox knows, and the offset of the first
// publication that it was given; zero for none. The caller does not hold the lock.
func (s *Subscription) Given() (last broker.Position, first uint64) {
	s.topic.mu.Lock()
	defer s.topic.mu.Unlock()
	return broker.Position{Epoch: s.topic.last.Epoch, Offset: s.reported}, s.first
}

// Wrote reports whether the publication of an inbox at this offset is known to have been written
// to the connection, which has ended. It is known of the first, and of all if no frame was lost.
// The caller does not hold the lock.
func (s *Subscription) Wrote(offset uint64) bool {
	n := s.queue.Counts()
	s.topic.mu.Lock()
	defer s.topic.mu.Unlock()
	return n.Lost == 0 || offset == s.first && n.Written >= s.firstAt
}

// part is a publication in the form in which a subscription gets it.
type part struct {
	frame *sendqueue.Frame // nil if it does not get it
	at    broker.Position
	prev  uint64
	union uint64 // the key of a union, or zero
	large bool   // too large for a queue: another process with larger queues kept it
}

// encode returns publications in the form in which the client gets them, without those that are not
// for it. No lock need be held.
func (s *Subscription) encode(pubs []broker.Publication) []part {
	parts, now := make([]part, len(pubs)), time.Now()
	for i := range pubs {
		p, m := &pubs[i], &pubs[i].Message
		parts[i] = part{at: p.Position, prev: p.Prev, union: s.fetcher.UnionKey(p)}
		if s.subscriber.Excluded(&p.Target) || p.Expired(now) {
			continue
		}
		if parts[i].large = len(m.Content)+len(m.Binary) > s.fetcher.maxBytes; parts[i].large {
			continue
		}
		at := wire.Envelope{Room: s.topic.Room, At: p.Position, Prev: p.Prev}
		if s.topic.Room == "" { // an inbox
			at.Conn = m.Conn
		}
		parts[i].frame = wire.EncodeIn(s.protocol, m, &at)
	}
	return parts
}
