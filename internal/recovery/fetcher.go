package recovery

import (
	"context"
	"errors"
	"hash/maphash"
	"log/slog"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/dedup"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/ratelog"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/wire"
)

// Fetcher reads for connections what they missed: a page at a time, whenever most of the queue of
// the connection was written. There may be more to read than a queue takes, and a sender never
// waits for it.
type Fetcher struct {
	broker   *Broker
	counters *metrics.Counters
	log      *ratelog.Logger
	page     broker.Query
	maxBytes int // of a message
	seed     maphash.Seed
	outage   outage
}

// NewFetcher returns a Fetcher that reads pages of so many messages from b and skips messages of
// more than maxBytes.
func NewFetcher(b *Broker, cs *metrics.Counters, log *ratelog.Logger, page, maxBytes int) *Fetcher {
	return &Fetcher{
		broker: b, counters: cs, log: log, page: broker.Query{Limit: max(1, page)},
		maxBytes: maxBytes, seed: maphash.MakeSeed(),
	}
}

// UnionKey returns the number by which a union is known, and zero for any other publication.
func (k *Fetcher) UnionKey(p *broker.Publication) uint64 {
	if !p.Union {
		return 0
	}
	return maphash.Comparable(k.seed, dedup.Key{Sender: p.Message.From(), ID: p.Message.ID})
}

// Gave remembers that a connection was given a union.
func (k *Fetcher) Gave(l *Lagging, key uint64) { k.hold(l.seen.add(key)) }

// Settle ends what Lagging.FirstTime began. given says that the connection has the union now and
// may find it in another stream.
func (k *Fetcher) Settle(l *Lagging, key uint64, given bool) { k.hold(l.seen.settle(key, given)) }

// Forget forgets the unions that a connection was given, so that it gets them again.
func (k *Fetcher) Forget(l *Lagging) { k.hold(-l.seen.clear()) }

// End frees the memory of a connection that has ended.
func (k *Fetcher) End(l *Lagging) { k.hold(-l.seen.end()) }

func (k *Fetcher) hold(bytes int) { k.counters.Queues.Budget.Hold(int64(bytes)) }

// fetch begins to serve a subscription. Locks may be held.
func (k *Fetcher) fetch(s *Subscription) {
	if l := s.siblings; l.add(s) {
		k.broker.Go(func() { k.serve(s.queue, l) })
	}
}

// serve reads a page for each subscription of a connection in turn, until none lags.
func (k *Fetcher) serve(q *sendqueue.Queue, l *Lagging) {
	for s := l.next(); s != nil; s = l.next() {
		open := q.WaitSpace()
		if !open || k.step(s) {
			l.remove(s)
		}
		if open {
			k.recheck(s)
		}
	}
}

// recheck adds a subscription that has begun to lag again while it was removed.
func (k *Fetcher) recheck(s *Subscription) {
	s.topic.mu.Lock()
	defer s.topic.mu.Unlock()
	if s.lagging && !s.closed && !s.ahead {
		s.siblings.add(s)
	}
}

// step reads one page and gives it to the subscription. It reports whether the subscription need
// not be served any more.
func (k *Fetcher) step(s *Subscription) (finished bool) {
	t := s.topic
	t.mu.Lock()
	from, losses := s.position, t.losses
	finished = k.arrived(s)
	t.mu.Unlock()
	if finished {
		return true
	}
	q := k.page
	q.After = from.Offset
	r := k.broker.read(s.subscriber.Context(),
		&read{key: readKey{t.Stream, q}, topic: t, losses: losses}, t.fits)
	page, err := r.page, r.err
	var restart broker.Position // of an inbox whose epoch has changed
	if err == nil && t.Room == "" && page.GapAfter(from) == broker.ReasonEpoch &&
		page.Top.Epoch != from.Epoch {
		restart, err = s.subscriber.Restart(s.subscriber.Context())
	}
	if err != nil {
		return k.failed(s, err)
	}
	parts := s.encode(page.Publications)
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.asked {
		s.asked = false
		s.subscriber.Charge(page.Size())
	}
	t.found(page.Top, losses)
	if s.position != from { // it was moved meanwhile
		return s.closed
	}
	return k.give(s, &page, parts, restart)
}

// arrived makes a subscription live that has nothing left to read. The lock of its topic is held,
// as in the following methods.
func (k *Fetcher) arrived(s *Subscription) bool {
	if s.closed || !s.lagging || s.ahead {
		return true
	}
	if s.topic.lost() || s.position != s.topic.last {
		return false
	}
	if s.report(s.topic.last.Offset, fetched) {
		s.caughtUp()
		return true
	}
	return false
}

// give gives a page to a subscription.
func (k *Fetcher) give(s *Subscription, page *broker.Page, parts []part, restart broker.Position) (finished bool) {
	if s.closed || !s.lagging {
		return true
	}
	if why := page.GapAfter(s.position); why != "" {
		return k.reportGap(s, page, why, restart)
	}
	if !k.giveAll(s, parts) || page.More {
		return false // the rest comes with the next page
	}
	s.position = page.Top
	return k.connect(s)
}

// connect joins a subscription that has read to the end of the stream to the live publications.
func (k *Fetcher) connect(s *Subscription) bool {
	if s.collecting {
		for len(s.collected) > 0 && s.collected[0].Position.Offset <= s.position.Offset {
			s.collected = s.collected[1:]
		}
		if len(s.collected) > 0 && s.collected[0].Follows(s.position) {
			k.giveAll(s, s.encode(s.collected))
		}
	}
	if k.arrived(s) {
		return true
	}
	last := s.topic.last
	if !s.topic.lost() && s.position.Epoch == last.Epoch && s.position.Offset > last.Offset {
		s.ahead = true
		return true
	}
	s.collect(true)
	return false
}

// giveAll gives the parts that are for the client. It reports false if the queue had no space; the
// client has everything up to the position of s then.
func (k *Fetcher) giveAll(s *Subscription, parts []part) bool {
	for i := range parts {
		p := &parts[i]
		if p.frame != nil && !k.givePart(s, p) {
			return false
		}
		s.position, s.dropped = p.at, s.dropped || p.large
	}
	return true
}

// givePart gives a part, unless the client has it from another stream. It reports false if the
// queue had no space.
func (k *Fetcher) givePart(s *Subscription, p *part) bool {
	l := s.siblings
	if p.union != 0 && !l.FirstTime(p.union) {
		s.settled(p.at)
		return true
	}
	given := s.report(p.prev, fetched) && s.push(p.frame, fetched)
	if given {
		s.gave(p.at)
		k.counters.Add(metrics.CaughtUp, 1)
	}
	if p.union != 0 {
		k.Settle(l, p.union, given)
	}
	return given
}

// reportGap gives up what cannot be read and tells the client. The subscription continues with what
// is kept, or in an inbox whose epoch has changed with what is not acknowledged.
func (k *Fetcher) reportGap(
	s *Subscription, page *broker.Page, why broker.Reason, restart broker.Position,
) (finished bool) {
	at := s.topic.last
	switch {
	case restart.Epoch != "":
		at = restart
	case why == broker.ReasonEpoch, s.position.Epoch == page.Top.Epoch && s.position.Offset < page.Floor:
		at = page.Bottom()
	}
	missing := why != broker.ReasonTaken
	if !missing {
		why = ""
	}
	if s.protocol == wire.ProtoV1 && !s.push(wire.PositionFrame(s.topic.Room, at, why), fetched) {
		return false
	}
	if missing {
		k.counters.Add(metrics.Unrecovered, 1)
	}
	s.reported, s.position, s.dropped = at.Offset, at, false
	return k.arrived(s)
}

// Failed counts and logs an error of the broker that a connection suffers from.
func (k *Fetcher) Failed(ctx context.Context, err error) {
	k.counters.Add(metrics.Failed, 1)
	k.log.Log(ctx, slog.LevelError, "broker", "realtime: the broker failed", slog.Any("error", err))
}

// failed handles an error of the broker, and reports whether the subscription need not be served any
// more. While the broker is unavailable, failed waits. Any other error ends the connection: its
// client reconnects and asks again.
func (k *Fetcher) failed(s *Subscription, err error) (finished bool) {
	if s.subscriber.Ended() {
		return true
	}
	ctx := s.subscriber.Context()
	k.Failed(ctx, err)
	if !errors.Is(err, broker.ErrUnavailable) {
		s.subscriber.Fail(err)
		return true
	}
	k.outage.wait(ctx, func() bool {
		_, err := k.broker.Read(ctx, s.topic.Stream, broker.Query{Backwards: true, Limit: 1})
		return !errors.Is(err, broker.ErrUnavailable)
	})
	return false
}
