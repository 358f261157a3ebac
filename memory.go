package realtime

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/timerwheel"
)

const (
	// evictPause is the time between two steps.
	evictPause = 100 * time.Millisecond
	// evictSteps is the number of steps between two samples of what each connection has read. A
	// peer that is far away needs that time. No connection is ended before the second sample.
	evictSteps = 3
	// guessedRate is the number of bytes that a peer is assumed to move between two samples if it
	// had nothing to read or nothing to send, so that its rate is not known.
	guessedRate = 16 << 10
)

// evictor ends connections under memory pressure, in the order of the time that they would take to
// read their queues. A connection whose queue was empty at the previous sample is not known to be
// slow.
//
// The evictor begins before the budget is used up, and goes on until a part of it is free, so that
// new connections are not refused in the meantime. A frame that n connections hold is freed with
// the last of them, so it weighs one n-th for each. Therefore a connection that shares its backlog
// with a thousand others is not ended before a connection with a tenth of that backlog for itself,
// and not all that share a backlog are ended at once. If too little memory was freed, because the
// remaining connections hold the same frames, these frames weigh more in the next step.
//
// Replies that are not read have a part of the budget. If that part is used up, the connections
// with the most unread replies are ended first.
type evictor struct {
	budget  *sendqueue.Budget
	replies *sendqueue.Replies
	m       *Manager
	timer   timerwheel.Timer
	armed   atomic.Bool // the timer is set

	recent, previous map[*Conn]progress // the last two samples; nil before they are taken
	steps            int                // since memory became short
}

// newEvictor returns an evictor and sets the limits and alarms of the budget. An alarm only sets a
// timer, so it costs the goroutine that pushes little.
func newEvictor(m *Manager) *evictor {
	e := &evictor{budget: &m.counters.Queues.Budget, replies: &m.counters.Queues.Replies, m: m}
	e.timer.Fire = e.step
	e.budget.Limit = int64(m.opts.Limits.MemoryBytes)
	e.budget.Mark = e.budget.Limit / 8 * 7
	e.budget.Alarm = e.schedule
	e.replies.Limit = e.budget.Limit / 4
	e.replies.Alarm = e.schedule
	return e
}

// schedule runs step after a pause, unless it is scheduled already.
func (e *evictor) schedule() {
	if !e.armed.Load() && !e.armed.Swap(true) {
		e.m.wheel.Set(&e.timer, evictPause)
	}
}

// progress is how many bytes a peer has read and sent, and whether it had a reason to.
type progress struct {
	read, sent  uint64
	waits, half bool // messages waited to be read; a message was half sent
	unread      int  // bytes of replies that waited
}

// load is the memory that one connection takes, in bytes, and how fast its peer frees it.
type load struct {
	conn   *Conn
	queue  float64  // messages that wait to be read by the peer
	half   float64  // the message that the peer is sending
	known  float64  // record of unions, and messages that wait for a handler
	unread int      // replies
	lately progress // since the previous sample; waits, half and unread are those of that sample
}

func (l *load) weight() float64 { return l.queue + l.half + l.known }

// slowness returns the approximate time in which the peer would read its queue and send the rest of
// its message, in steps. If it had nothing to do before, it does not count as slow.
func (l *load) slowness() float64 {
	reads, sends := float64(guessedRate), float64(guessedRate)
	if l.lately.waits {
		reads = float64(l.lately.read + 1)
	}
	if l.lately.half {
		sends = float64(l.lately.sent + 1)
	}
	return l.queue/reads + l.half/sends + l.known/guessedRate
}

// step runs in the goroutine of the wheel, at most once in each evictPause.
func (e *evictor) step() {
	e.armed.Store(false)
	pressed, short := e.budget.Pressed(), e.replies.Short()
	if !pressed && !short {
		e.recent, e.previous, e.steps = nil, nil, 0
		e.budget.Rearm()
		return
	}
	if e.steps%evictSteps == 0 {
		e.previous, e.recent = e.recent, e.sample()
	}
	e.steps++
	if e.previous != nil {
		loads, unowned := e.weigh()
		if short {
			e.endUnread(loads, int(e.replies.Limit/2))
		}
		if pressed {
			e.endSlowest(loads, float64(e.budget.Limit/4*3)-unowned)
		}
	}
	e.schedule()
}

// sample returns how much each connection has moved so far, and whether it has a reason to move
// more. A peer is not responsible for messages that wait before its connection is open.
func (e *evictor) sample() map[*Conn]progress {
	moved := make(map[*Conn]progress)
	for _, c := range e.m.conns.byID.Values() {
		moved[c] = progress{
			read: c.queue.Moved(), sent: c.session.ReceivedBytes(),
			waits: c.queue.Counts().Queued > 0 && !c.opening(), half: c.session.HalfRead() > 0,
			unread: c.queue.Unread(),
		}
	}
	return moved
}

// weigh returns the loads of the connections that have not ended, and the bytes that no connection
// holds. The memory of connections that have ended counts as free, and so does the memory that a
// flusher has freed and not yet reported.
func (e *evictor) weigh() (loads []load, unowned float64) {
	unowned = float64(e.budget.Held())
	for _, c := range e.m.conns.byID.Values() {
		l := load{
			conn: c, queue: c.queue.Weight(), half: float64(c.session.HalfRead()),
			known:  float64(c.lagging.Bytes() + c.session.Backlog()),
			unread: c.queue.Unread(),
		}
		unowned -= l.half + l.known
		if l.weight() == 0 || c.session.Ended() {
			continue
		}
		l.lately = e.previous[c] // zero, if the connection is new
		l.lately.read = c.queue.Moved() - l.lately.read
		l.lately.sent = c.session.ReceivedBytes() - l.lately.sent
		loads = append(loads, l)
	}
	return loads, unowned
}

// endUnread ends connections that do not read their replies, until the others have at most this
// many bytes of unread replies.
func (e *evictor) endUnread(loads []load, most int) {
	slices.SortFunc(loads, func(a, b load) int { return cmp.Compare(b.unread, a.unread) })
	total := 0
	for _, l := range loads {
		total += l.unread
	}
	for _, l := range loads {
		if total <= most {
			return
		}
		if l.lately.read < uint64(min(l.unread, l.lately.unread)) { // else the peer is reading them
			e.end(l.conn)
		}
		total -= l.unread
	}
}

// endSlowest ends the slowest connections, until the others take at most this many bytes: the part
// of the budget that detached sessions and message ids leave to them. These are freed by time
// alone, and ending all connections would not help. So the connections may always take an eighth of
// the limit.
func (e *evictor) endSlowest(loads []load, most float64) {
	total := 0.0
	for _, l := range loads {
		total += l.weight()
	}
	most = max(most, float64(e.budget.Limit/8))
	slices.SortFunc(loads, func(a, b load) int { return cmp.Compare(b.slowness(), a.slowness()) })
	for _, l := range loads {
		if total <= most {
			return
		}
		e.end(l.conn)
		total -= l.weight()
	}
}

func (e *evictor) end(c *Conn) {
	c.session.Expel(CauseSlow, CloseSlow, "server is short of memory")
}
