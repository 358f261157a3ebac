package realtime

import (
	"cmp"
	"slices"
	"time"

	"github.com/realtime-go/realtime/internal/engine"
)

// reliefPause is how long those who read have to catch up before anybody is ended for
// want of memory, and again before more are.
const reliefPause = 100 * time.Millisecond

// relief ends connections while more waits to be written than the budget allows: those
// that weigh the most, until the others weigh no more than that.
//
// A frame that n connections hold is freed with the last of them, so it weighs an n-th
// part for each: who shares his backlog with a thousand is not ended before one who has a
// tenth of it for himself, and not all who share it are ended at once. If that did not free
// enough, because those who are left hold on to the same frames, they weigh more the next
// time.
type relief struct {
	budget *engine.Budget
	wheel  *engine.Wheel
	conns  *shards[*Conn]
	timer  engine.Timer
}

// begin makes the budget raise its alarm with r. Until the wheel comes by the alarm costs
// whoever pushes nothing but setting its timer.
func (r *relief) begin() {
	r.timer.Fire = r.step
	r.budget.Alarm = r.again
}

func (r *relief) again() { r.wheel.Set(&r.timer, reliefPause) }

// step runs in the goroutine of the wheel, at most once for each reliefPause.
func (r *relief) step() {
	if !r.budget.Over() {
		r.budget.Rearm()
		return
	}
	r.lighten(float64(r.budget.Limit))
	r.again()
}

// lighten ends the connections that weigh the most, until the others are within the limit.
// What others still hold, who have ended or whose flusher has not told the budget yet, is
// as good as freed.
func (r *relief) lighten(limit float64) {
	type load struct {
		conn   *Conn
		weight float64
	}
	var loads []load
	total := 0.0
	for _, c := range r.conns.snapshot() {
		if weight := c.link.Weight(); weight > 0 && !c.ended() {
			loads = append(loads, load{c, weight})
			total += weight
		}
	}
	slices.SortFunc(loads, func(a, b load) int { return cmp.Compare(b.weight, a.weight) })
	for _, l := range loads {
		if total <= limit {
			return
		}
		l.conn.expel(CauseSlow, CloseSlow, "server is short of memory")
		total -= l.weight
	}
}
