package realtime

import (
	"hash/maphash"
	"log/slog"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/dedup"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/ratelog"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/transport"
	"github.com/realtime-go/realtime/internal/wire"
)

// catcher gives connections what they have missed. It pulls: a page at a time, whenever most of
// what waits for a connection has been written. What was missed may be more than a queue takes,
// and is none of the business of who sends.
type catcher struct {
	carrier  *carrier
	counters *metrics.Counters
	notes    *ratelog.Logger
	page     broker.Query

	maxBytes int // of a message
	seed     maphash.Seed
}

// key is by what a message to several targets is known, and zero for any other.
func (k *catcher) key(p *broker.Publication) uint64 {
	if !p.Union {
		return 0
	}
	return maphash.Comparable(k.seed, dedup.Key{Sender: p.Message.From(), ID: p.Message.ID})
}

// gave notes that a connection which is catching up, or was, has got a message to several targets.
func (k *catcher) gave(behind *pulls, key uint64) {
	k.counters.Queues.Budget.Hold(int64(behind.given.add(key)))
}

// settle is given.settle.
func (k *catcher) settle(behind *pulls, key uint64, got bool) {
	k.counters.Queues.Budget.Hold(int64(behind.given.settle(key, got)))
}

// end frees what is remembered of a connection that has ended.
func (k *catcher) end(behind *pulls) {
	k.counters.Queues.Budget.Hold(-int64(behind.given.end()))
}

// forget has a connection get again what it has got.
func (k *catcher) forget(behind *pulls) {
	k.counters.Queues.Budget.Hold(-int64(behind.given.clear()))
}

// encode is feed.encode, and says which messages have several targets.
func (k *catcher) encode(f *feed, pubs []broker.Publication) []part {
	parts := f.encode(pubs, k.maxBytes)
	for i := range parts {
		parts[i].key = k.key(&pubs[i])
	}
	return parts
}

// pull begins to serve a feed that has fallen behind. Locks may be held.
func (k *catcher) pull(f *feed) {
	if f.conn.behind().add(f) {
		k.carrier.spawn(func() { k.serve(f.link, f.conn.behind()) })
	}
}

// serve gives a connection a page of each of its feeds in turn, until none is behind.
func (k *catcher) serve(link *sendqueue.Queue, behind *pulls) {
	for f := behind.next(); f != nil; f = behind.next() {
		open := link.WaitSpace()
		if !open || k.step(f) {
			behind.remove(f)
		}
		if open {
			k.recheck(f)
		}
	}
}

// recheck is for a feed that has fallen behind again while it was being removed.
func (k *catcher) recheck(f *feed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.behind && !f.closed && !f.ahead {
		f.conn.behind().add(f)
	}
}

// step reads what comes next for a feed and gives it. It reports whether the feed is no more to be
// served.
func (k *catcher) step(f *feed) (finished bool) {
	f.mu.Lock()
	from, losses := f.done, f.losses
	finished = k.arrived(f)
	f.mu.Unlock()
	if finished {
		return true
	}
	q := k.page
	q.After = from.Offset
	page, err := k.carrier.read(f.conn.Context(), f.stream, q)
	var anew broker.Position // where an inbox begins that has another epoch
	if err == nil && f.begin != nil && page.GapAfter(from) == ReasonEpoch && page.Top.Epoch != from.Epoch {
		anew, err = f.begin(f.conn.Context())
	}
	if err != nil {
		k.failed(f, err)
		return true
	}
	parts := k.encode(f, page.Publications)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asked {
		f.asked = false
		f.conn.charge(page.Size())
	}
	f.found(page.Top, losses)
	if f.done != from { // it was sent back meanwhile
		return f.closed
	}
	return k.hand(f, &page, parts, anew)
}

// arrived makes a feed live that has nothing left to get. f.mu is held, as for the following.
func (k *catcher) arrived(f *feed) bool {
	if f.closed || !f.behind || f.ahead {
		return true
	}
	if f.lost() || f.done != f.last {
		return false
	}
	if f.inform(f.last.Offset, pulled, k.counters) {
		f.live()
		return true
	}
	return false
}

// hand gives a page.
func (k *catcher) hand(f *feed, page *broker.Page, parts []part, anew broker.Position) (finished bool) {
	if f.closed || !f.behind {
		return true
	}
	if why := page.GapAfter(f.done); why != "" {
		return k.lose(f, page, why, anew)
	}
	if !k.giveAll(f, parts) || page.More {
		return false // the rest comes with the next page
	}
	f.done = page.Top
	return k.connect(f)
}

// connect goes on to what is live, with a feed that has read to the end.
func (k *catcher) connect(f *feed) bool {
	if f.holding {
		for len(f.held) > 0 && f.held[0].Position.Offset <= f.done.Offset {
			f.held = f.held[1:]
		}
		if len(f.held) > 0 && f.held[0].Follows(f.done) {
			k.giveAll(f, k.encode(f, f.held))
		}
	}
	if k.arrived(f) {
		return true
	}
	if !f.lost() && f.done.Epoch == f.last.Epoch && f.done.Offset > f.last.Offset {
		f.ahead = true // what it has read is about to be delivered
		return true
	}
	f.catch(true)
	return false
}

// giveAll gives what is for the client. It reports false if the queue had no room; up to done it
// has them.
func (k *catcher) giveAll(f *feed, parts []part) bool {
	for i := range parts {
		p := &parts[i]
		if p.frame != nil && !k.give(f, p) {
			return false
		}
		f.done, f.skipped = p.at, f.skipped || p.large
	}
	return true
}

// give gives a part, unless the client has it from another stream. It reports false if the queue
// had no room.
func (k *catcher) give(f *feed, p *part) bool {
	behind := f.conn.behind()
	if p.key != 0 && !behind.given.begin(p.key) {
		f.dealt(p.at)
		return true
	}
	got := f.give(p.frame, p.at, p.prev, k.counters)
	if p.key != 0 {
		k.settle(behind, p.key, got)
	}
	if got {
		k.counters.Add(metrics.CaughtUp, 1)
	}
	return got
}

// lose gives up what cannot be recovered, and tells the client. It goes on with what is kept, and
// in another life of an inbox with what is not acknowledged.
func (k *catcher) lose(f *feed, page *broker.Page, why Reason, anew broker.Position) (finished bool) {
	at := f.last
	switch {
	case anew.Epoch != "":
		at = anew
	case why == ReasonEpoch, f.done.Epoch == page.Top.Epoch && f.done.Offset < page.Floor:
		at = page.Bottom()
	}
	missing := why != ReasonTaken
	if !missing {
		why = ""
	}
	if f.proto == wire.ProtoV1 && !f.offer(wire.PositionFrame(f.room, at, why), pulled, k.counters) {
		return false
	}
	if missing {
		k.counters.Add(metrics.Unrecovered, 1)
	}
	f.told, f.done, f.skipped = at.Offset, at, false
	return k.arrived(f)
}

// broken notes that the broker has failed a connection.
func (k *catcher) broken(c client, err error) {
	k.counters.Add(metrics.Failed, 1)
	k.notes.Log(c.Context(), slog.LevelError, "broker", "realtime: the broker has failed",
		slog.Any("error", err))
}

// failed ends a connection that cannot be given what it has missed. It comes back and asks again.
func (k *catcher) failed(f *feed, err error) {
	if f.conn.ended() {
		return
	}
	k.broken(f.conn, err)
	f.conn.finish(&CloseError{
		Cause: CauseServer, Code: CloseInternal, Reason: "internal error", Err: err,
	}, transport.CloseGrace)
}
