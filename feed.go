package realtime

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/wire"
)

const (
	// What is held at most for a connection that reads the end of a stream. It may do so for long.
	maxHeld      = 256
	maxHeldBytes = 256 << 10
	// maxLeftOut is after how many publications that were not for it a connection is told where
	// it is. Until then the next one that is for it does that.
	maxLeftOut = 16
	// pulled is the policy for what a connection has missed, whatever that of the room is: what
	// finds no room comes later, and is no reason to end the connection or to drop something else.
	pulled = sendqueue.DropNewest
)

// client is the connection of a feed.
type client interface {
	leftOut(t *broker.Target) bool
	Context() context.Context
	behind() *pulls
	charge(bytes int)
	ended() bool
	finish(e *CloseError, within time.Duration) bool
}

// feed is a connection's place in a stream, where that is not simply its end. It is guarded by
// the lock of the room or the user that has it.
//
// A connection that is live has nothing of the kind to be looked at: its place is that of the
// source. The flag aside, of the member or the connection, says that it is not, or that it has
// to be told something first.
type feed struct {
	*source
	receiver
	conn client
	mu   *sync.Mutex
	set  func(aside bool) // the flag

	closed  bool   // left
	told    uint64 // the offset that the client knows of, if it is aside
	leftOut int    // publications that were not for it since then
	skipped bool   // of these some were, and were dropped

	asked   bool            // the client has asked for what it gets, and pays for the first page
	behind  bool            // it gets what it has missed, and nothing else until it has
	done    broker.Position // if it is behind: up to there it has
	ahead   bool            // of what was delivered here, which it waits for
	holding bool            // what comes live, because it reads what is in front of that
	held    []broker.Publication
	weight  int // of held, in bytes

	// begin says where the client begins in another life of an inbox; nil for a room.
	begin func(ctx context.Context) (broker.Position, error)

	first   uint64 // of an inbox: the offset of what the client was given first
	firstAt uint64 // and how many frames must have been written for that to be

	given   broker.Position // the last that the client was given, if acks is set
	givenAt uint64          // and how many frames must have been written for that to be
	acks    func()          // begins to acknowledge for a client that does not do so; may be nil
	acking  bool
}

// fallBehind makes the feed get what comes after a position, of which the client knows. The caller
// has a catcher see to that.
func (f *feed) fallBehind(at broker.Position) { f.lag(at, at.Offset) }

// lag is fallBehind of a client that has been told of an older offset: what is in between was not
// for it, or it had that from another stream.
func (f *feed) lag(at broker.Position, told uint64) {
	if f.closed {
		return
	}
	f.behind, f.done, f.told, f.asked = true, at, told, false
	f.leftOut, f.skipped, f.ahead = 0, false, false
	f.catch(false)
	f.set(true)
}

// live ends being behind.
func (f *feed) live() {
	f.behind, f.ahead, f.leftOut = false, false, 0
	f.catch(false)
	if f.set(f.told != f.last.Offset); f.told != f.last.Offset {
		f.leftOut = 1
	}
}

// leave ends the feed.
func (f *feed) leave() {
	f.closed = true
	f.catch(false)
	f.conn.behind().remove(f)
}

// catch begins or ends to hold what comes live.
func (f *feed) catch(yes bool) { f.holding, f.held, f.weight = yes, nil, 0 }

// hold keeps what comes live, as long as it is not too much and nothing is missing.
func (f *feed) hold(p *broker.Publication) {
	if !f.holding {
		return
	}
	n := len(f.held)
	gap := n > 0 && !p.Follows(f.held[n-1].Position)
	if f.weight += p.Size(); gap || n == maxHeld || f.weight > maxHeldBytes {
		f.catch(false)
		return
	}
	f.held = append(f.held, *p)
}

// pass notes a publication that a connection which is not behind does not get.
func (f *feed) pass(p *broker.Publication, dropped bool) {
	if f.leftOut == 0 {
		f.told = p.Prev
		f.set(true)
	}
	f.leftOut++
	f.skipped = f.skipped || dropped
}

// inform tells the client where it is, if it does not know: everything up to offset is dealt with.
// It reports false if the queue has no room for that.
func (f *feed) inform(offset uint64, policy sendqueue.Policy, t *metrics.Counters) bool {
	if f.told != offset && f.proto == wire.ProtoV1 {
		at := broker.Position{Epoch: f.last.Epoch, Offset: offset}
		frame := wire.PositionFrame(f.room, at, "")
		if f.skipped {
			frame = wire.SkippedFrame(f.room, f.told, at)
		}
		if !f.offer(frame, policy, t) {
			return false
		}
	}
	f.told, f.leftOut, f.skipped = offset, 0, false
	return true
}

// part is a publication as a feed's client gets it.
type part struct {
	frame *sendqueue.Frame // nil if it does not
	at    broker.Position
	prev  uint64
	key   uint64 // of a message to several targets; zero for any other
	large bool   // too large for a queue: it was kept by a process with larger ones
}

// encode makes what a client gets of publications: without those that are not for it, and of
// those with one key the last. No lock need be held.
func (f *feed) encode(pubs []broker.Publication, maxBytes int) []part {
	parts, latest, now := make([]part, len(pubs)), map[string]bool{}, time.Now()
	for i := len(pubs) - 1; i >= 0; i-- {
		p := &pubs[i]
		parts[i] = part{at: p.Position, prev: p.Prev}
		if f.conn.leftOut(&p.Target) || p.Expired(now) {
			continue
		}
		if key := p.Message.Key; key != "" {
			if latest[key] {
				continue
			}
			latest[key] = true
		}
		if parts[i].large = checkSize((*Message)(&p.Message), maxBytes) != nil; parts[i].large {
			continue
		}
		parts[i].frame = wire.EncodeIn(f.proto, &p.Message, &wire.Envelope{Room: f.room, At: p.Position, Prev: p.Prev})
	}
	return parts
}

// give gives the client a publication that it has missed, and what it must know before.
func (f *feed) give(frame *sendqueue.Frame, at broker.Position, prev uint64, t *metrics.Counters) bool {
	if !f.inform(prev, pulled, t) || !f.offer(frame, pulled, t) {
		return false
	}
	f.gave(at)
	return true
}

// gave notes what the client was given.
func (f *feed) gave(at broker.Position) {
	f.told = at.Offset
	if f.begin != nil && f.first == 0 {
		f.first, f.firstAt = at.Offset, f.link.Counts().Through()
	}
	f.dealt(at)
}

// dealt notes that the client was given everything up to a position that it is to get, here or from
// another stream. Once it is written, that counts as taken if the client does not acknowledge.
func (f *feed) dealt(at broker.Position) {
	if f.acks == nil {
		return
	}
	f.given, f.givenAt = at, f.link.Counts().Through()
	if !f.acking {
		f.acking = true
		f.acks()
	}
}

// offer gives the client what is for it alone, if its queue has room.
func (f *feed) offer(frame *sendqueue.Frame, policy sendqueue.Policy, t *metrics.Counters) bool {
	t.Add(metrics.Matched, 1)
	out := f.link.Push(frame, f.traits.class, policy)
	t.Queues.Budget.Settle(frame)
	return out == sendqueue.Queued
}

// pulls are the feeds of one connection that are behind. The zero value is ready.
type pulls struct {
	mu      sync.Mutex
	feeds   []*feed
	running bool

	busy  atomic.Bool // there are feeds
	given given
}

// add notes a feed, and reports whether somebody has to begin to serve them.
func (p *pulls) add(f *feed) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.feeds, f) {
		p.feeds = append(p.feeds, f)
		p.busy.Store(true)
	}
	begin := !p.running
	p.running = true
	return begin
}

// next returns the feed whose turn it is, and nil if there is none left.
func (p *pulls) next() *feed {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.feeds) == 0 {
		p.running = false
		return nil
	}
	f := p.feeds[0]
	p.feeds = append(p.feeds[1:], f)
	return f
}

func (p *pulls) remove(f *feed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.feeds = slices.DeleteFunc(p.feeds, func(other *feed) bool { return other == f })
	p.busy.Store(len(p.feeds) > 0)
}
