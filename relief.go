package realtime

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/realtime-go/realtime/internal/engine"
)

const (
	// reliefPause is the time between two steps.
	reliefPause = 100 * time.Millisecond
	// reliefSteps is after how many steps it is looked at how much each connection has read: time
	// enough for one that is far away. Nobody is ended before.
	reliefSteps = 3
)

// relief ends connections while memory is short: those that would take the longest to read what
// waits for them.
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
type relief struct {
	budget  *engine.Budget
	replies *engine.Replies
	wheel   *engine.Wheel
	conns   *shards[*Conn]
	timer   engine.Timer
	armed   atomic.Bool // the timer is set
	// What each connection had moved some steps ago, and at least reliefSteps before that.
	recent, before map[*Conn]progress
	steps          int // since memory became short
}

// begin makes the budget raise its alarm with r. Until the wheel comes by the alarm costs
// whoever pushes nothing but setting its timer.
func (r *relief) begin() {
	r.timer.Fire = r.step
	r.budget.Mark = r.budget.Limit / 8 * 7
	r.budget.Alarm = r.again
	r.replies.Limit = r.budget.Limit / 4
	r.replies.Alarm = r.again
}

// again has step come by after a pause. To ask for it again meanwhile does not put it off.
func (r *relief) again() {
	if !r.armed.Load() && !r.armed.Swap(true) {
		r.wheel.Set(&r.timer, reliefPause)
	}
}

// progress is how many bytes a peer has read, and sent.
type progress struct{ read, sent uint64 }

// load is what one connection weighs.
type load struct {
	conn   *Conn
	weight float64 // of what waits to be read by the peer, and of what is known of it
	half   float64 // and of the message that it sends
	unread int     // bytes of answers
	lately progress
}

// slowness is about how many steps it would take to read what waits, and to send what is half
// there.
func (l *load) slowness() float64 {
	return l.weight/float64(l.lately.read+1) + l.half/float64(l.lately.sent+1)
}

// step runs in the goroutine of the wheel, at most once for each reliefPause.
func (r *relief) step() {
	r.armed.Store(false)
	pressed, short := r.budget.Pressed(), r.replies.Short()
	if !pressed && !short {
		r.recent, r.before, r.steps = nil, nil, 0
		r.budget.Rearm()
		return
	}
	if r.steps%reliefSteps == 0 {
		r.before, r.recent = r.recent, r.sample()
	}
	r.steps++
	if r.before != nil {
		loads, others := r.weigh()
		if short {
			r.endUnread(loads, int(r.replies.Limit/2))
		}
		if pressed {
			r.lighten(loads, float64(r.budget.Limit/4*3)-others)
		}
	}
	r.again()
}

// sample returns how much each connection has moved.
func (r *relief) sample() map[*Conn]progress {
	moved := make(map[*Conn]progress)
	for _, c := range r.conns.snapshot() {
		moved[c] = progress{c.link.Moved(), c.sent.Load()}
	}
	return moved
}

// weigh returns what the connections weigh that are not about to end, and how many bytes are held
// for no connection. What those hold that have ended, or whose flusher has not told the budget yet,
// is as good as freed.
func (r *relief) weigh() (loads []load, others float64) {
	others = float64(r.budget.Held())
	for _, c := range r.conns.snapshot() {
		half, given := float64(c.held.Load()), float64(c.pulls.given.bytes())
		others -= half + given
		l := load{conn: c, weight: c.link.Weight() + given, half: half, unread: c.link.Unread()}
		if l.weight+l.half == 0 || c.ended() {
			continue
		}
		before := r.before[c] // zero, if the connection is new
		l.lately = progress{c.link.Moved() - before.read, c.sent.Load() - before.sent}
		loads = append(loads, l)
	}
	return loads, others
}

// endUnread ends connections that do not read what they have asked for, until the others have
// asked for no more than this, in bytes.
func (r *relief) endUnread(loads []load, most int) {
	slices.SortFunc(loads, func(a, b load) int { return cmp.Compare(b.unread, a.unread) })
	total := 0
	for _, l := range loads {
		total += l.unread
	}
	for _, l := range loads {
		if total <= most {
			return
		}
		if l.lately.read < uint64(l.unread) { // else it is about to be read
			r.end(l.conn)
		}
		total -= l.unread
	}
}

// lighten ends the slowest connections, until the others are within so many bytes: what is left by
// absent connections and ids. Those are forgotten in time, and it would not help if all connections
// were ended for them: an eighth of the limit is for connections in any case.
func (r *relief) lighten(loads []load, most float64) {
	total := 0.0
	for _, l := range loads {
		total += l.weight + l.half
	}
	most = max(most, float64(r.budget.Limit/8))
	slices.SortFunc(loads, func(a, b load) int { return cmp.Compare(b.slowness(), a.slowness()) })
	for _, l := range loads {
		if total <= most {
			return
		}
		r.end(l.conn)
		total -= l.weight + l.half
	}
}

func (r *relief) end(c *Conn) { c.expel(CauseSlow, CloseSlow, "server is short of memory") }
