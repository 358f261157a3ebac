package realtime

import (
	"sync"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/timerwheel"
)

// audience is the set of connections that have received a message, by their send queues. It is for
// messages whose target may name a connection more than once.
type audience struct {
	mu     sync.Mutex // held while a part of the message is delivered
	queues map[*sendqueue.Queue]struct{}
}

func (a *audience) has(q *sendqueue.Queue) bool {
	_, ok := a.queues[q]
	return ok
}

func (a *audience) forget(q *sendqueue.Queue) { delete(a.queues, q) }

// firstTime adds a connection, and reports whether it is new.
func (a *audience) firstTime(q *sendqueue.Queue) bool {
	if a.has(q) {
		return false
	}
	if a.queues == nil {
		a.queues = make(map[*sendqueue.Queue]struct{})
	}
	a.queues[q] = struct{}{}
	return true
}

// audiences are those of the messages that have come from other nodes in several parts: each part
// arrives by itself.
type audiences struct {
	wheel *timerwheel.Wheel
	timer timerwheel.Timer

	mu    sync.Mutex
	all   map[uint64]*audience
	order []arrival // of the first parts
}

// arrival is when the first part of a message has arrived.
type arrival struct {
	key uint64 // see recovery.Fetcher.UnionKey
	at  time.Time
}

const (
	// audienceTime is how long the parts of a message may arrive after the first one, and
	// maxAudiences for how many messages. A connection may get a second copy of a part that is
	// later; a client of realtime.v1 drops it by its id.
	audienceTime = 5 * time.Second
	maxAudiences = 1024
)

func (as *audiences) init(wheel *timerwheel.Wheel) {
	as.wheel, as.all = wheel, map[uint64]*audience{}
	as.timer.Fire = func() {
		as.mu.Lock()
		defer as.mu.Unlock()
		as.expire(time.Now())
	}
}

// of returns the audience of a message.
func (as *audiences) of(key uint64) *audience {
	now := time.Now()
	as.mu.Lock()
	defer as.mu.Unlock()
	a := as.all[key]
	if a == nil {
		a = new(audience)
		as.all[key] = a
		as.order = append(as.order, arrival{key, now})
		as.expire(now)
	}
	return a
}

// expire forgets what is too old or too much. as.mu is held.
func (as *audiences) expire(now time.Time) {
	n := 0
	for n < len(as.order) && (len(as.order)-n > maxAudiences || now.Sub(as.order[n].at) >= audienceTime) {
		delete(as.all, as.order[n].key)
		n++
	}
	if as.order = as.order[n:]; len(as.order) == 0 {
		as.order = nil
		return
	}
	as.wheel.Set(&as.timer, audienceTime-now.Sub(as.order[0].at))
}

// audienceOf returns the audience of a message that is given to its receivers in several parts, or
// nil.
func (b *broadcaster) audienceOf(p *broker.Publication) *audience {
	if o, ok := p.Origin.(*localResult); ok {
		return o.audience
	}
	if p.Union && !b.m.node.Alone() {
		return b.audiences.of(b.m.fetcher.UnionKey(p))
	}
	return nil
}
