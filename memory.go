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
	// evictSteps is after how many steps it is looked at how much each connection has read: time
	// enough for one that is far away. Nobody is ended before.
	evictSteps = 3
	// guessedRate is how many bytes a peer is taken to move between two samples where nothing shows
	// how many those are: it had nothing to read or to send.
	guessedRate = 16 << 10
)

// evictor ends connections while memory is short: those that would take the longest to read what
// waits for them. One for which nothing had waited some steps ago is not known to be slow.
//
// It begins before the budget is used up, and leaves some of it free, so that newcomers are not
// refused while it works. A frame that n connections hold is freed with the last of them, so it
// weighs an n-th part for each: a connection that shares its backlog with a thousand is not ended
// before one that has a tenth of it for itself, and not all that share it are ended at once. If
// that did not free enough, because those that are left hold on to the same frames, they weigh
// more the next time.
//
// Answers that are not read have a part of the budget. If that is used up, those go first that
// have not read the most.
type evictor struct {
	budget  *sendqueue.Budget
	replies *sendqueue.Replies
	m       *Manager
	timer   timerwheel.Timer
	armed   atomic.Bool // the timer is set
	// What each connection had moved some steps ago, and at least reliefSteps before that.
	recent, before map[*Conn]progress
	steps          int // since memory became short
}

// newEvictor returns a relief that the budget alarms. Until the wheel runs it, an alarm costs the
// goroutine that pushes no more than setting a timer.
func newEvictor(m *Manager) *evictor {
	r := &evictor{budget: &m.counters.Queues.Budget, replies: &m.counters.Queues.Replies, m: m}
	r.timer.Fire = r.step
	r.budget.Limit = int64(m.opts.Limits.MemoryBytes)
	r.budget.Mark = r.budget.Limit / 8 * 7
	r.budget.Alarm = r.again
	r.replies.Limit = r.budget.Limit / 4
	r.replies.Alarm = r.again
	return r
}

// again has step come by after a pause. To ask for it again meanwhile does not put it off.
func (r *evictor) again() {
	if !r.armed.Load() && !r.armed.Swap(true) {
		r.m.wheel.Set(&r.timer, evictPause)
	}
}

// progress is how many bytes a peer has read and sent, and whether it had reason to.
type progress struct {
	read, sent  uint64
	waits, half bool // something waited to be read, or was half sent
	unread      int  // bytes of answers that waited
}

// load is what one connection weighs.
type load struct {
	conn   *Conn
	queue  float64  // of what waits to be read by the peer
	half   float64  // of the message that it sends
	known  float64  // of what is known of it, and of what it has sent and no handler has taken
	unread int      // bytes of answers
	lately progress // since the sample before, with what waited then
}

func (l *load) weight() float64 { return l.queue + l.half + l.known }

// slowness is about how many steps it would take to read what waits, and to send what is half
// there. Who has had nothing to do until now, is not taken for slow.
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

// step runs in the goroutine of the wheel, at most once for each reliefPause.
func (r *evictor) step() {
	r.armed.Store(false)
	pressed, short := r.budget.Pressed(), r.replies.Short()
	if !pressed && !short {
		r.recent, r.before, r.steps = nil, nil, 0
		r.budget.Rearm()
		return
	}
	if r.steps%evictSteps == 0 {
		r.before, r.recent = r.recent, r.sample()
	}
	r.steps++
	if r.before != nil {
		loads, others := r.weigh()
		if short {
			r.endUnread(loads, int(r.replies.Limit/2))
		}
		if pressed {
			r.endSlowest(loads, float64(r.budget.Limit/4*3)-others)
		}
	}
	r.again()
}

// sample returns how much each connection has moved, and what it could move now. A peer cannot be
// blamed for what waits before the connection is open.
func (r *evictor) sample() map[*Conn]progress {
	moved := make(map[*Conn]progress)
	for _, c := range r.m.conns.byID.Values() {
		moved[c] = progress{
			read: c.queue.Moved(), sent: c.session.Sent(),
			waits: c.queue.Counts().Queued > 0 && !c.opening(), half: c.session.HalfRead() > 0,
			unread: c.queue.Unread(),
		}
	}
	return moved
}

// weigh returns what the connections weigh that are not about to end, and how many bytes are held
// for no connection. What those hold that have ended, or whose flusher has not told the budget yet,
// is as good as freed.
func (r *evictor) weigh() (loads []load, others float64) {
	others = float64(r.budget.Held())
	for _, c := range r.m.conns.byID.Values() {
		l := load{
			conn: c, queue: c.queue.Weight(), half: float64(c.session.HalfRead()),
			known: float64(c.lagging.Bytes() + c.session.Backlog()), unread: c.queue.Unread(),
		}
		others -= l.half + l.known
		if l.weight() == 0 || c.session.Ended() {
			continue
		}
		l.lately = r.before[c] // zero, if the connection is new
		l.lately.read = c.queue.Moved() - l.lately.read
		l.lately.sent = c.session.Sent() - l.lately.sent
		loads = append(loads, l)
	}
	return loads, others
}

// endUnread ends connections that do not read what they have asked for, until the others have
// asked for no more than this, in bytes.
func (r *evictor) endUnread(loads []load, most int) {
	slices.SortFunc(loads, func(a, b load) int { return cmp.Compare(b.unread, a.unread) })
	total := 0
	for _, l := range loads {
		total += l.unread
	}
	for _, l := range loads {
		if total <= most {
			return
		}
		if l.lately.read < uint64(min(l.unread, l.lately.unread)) { // else it is about to be read
			r.end(l.conn)
		}
		total -= l.unread
	}
}

// endSlowest ends the slowest connections, until the others are within so many bytes: what is left by
// absent connections and ids. Those are forgotten in time, and it would not help if all connections
// were ended for them: an eighth of the limit is for connections in any case.
func (r *evictor) endSlowest(loads []load, most float64) {
	total := 0.0
	for _, l := range loads {
		total += l.weight()
	}
	most = max(most, float64(r.budget.Limit/8))
	slices.SortFunc(loads, func(a, b load) int { return cmp.Compare(b.slowness(), a.slowness()) })
	for _, l := range loads {
		if total <= most {
			return
		}
		r.end(l.conn)
		total -= l.weight()
	}
}

func (r *evictor) end(c *Conn) {
	c.session.Expel(CauseSlow, CloseSlow, "server is short of memory")
}
