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
// with the most, until what they weigh is as much as there is too much.
//
// A frame that n connections hold is freed with the last of them, so it weighs an n-th
// part for each: who shares his backlog with a thousand is not ended before one who has a
// tenth of it for himself, and nobody is ended for more than there is too much. If what
// was ended has not freed it all, because others hold on to the same frames, those weigh
// more the next time, and are next.
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
	r.end(float64(r.budget.Excess()))
	r.again()
}

// end ends the connections that weigh the most. What connections hold that have ended
// already, a write that has not returned, is as good as freed.
func (r *relief) end(excess float64) {
	type load struct {
		conn   *Conn
		weight float64
	}
	var loads []load
	for _, c := range r.conns.snapshot() {
		weight := c.link.Weight()
		if c.ended() {
			excess -= weight
		} else if weight > 0 {
			loads = append(loads, load{c, weight})
		}
	}
	slices.SortFunc(loads, func(a, b load) int { return cmp.Compare(b.weight, a.weight) })
	for _, l := range loads {
		if excess <= 0 {
			return
		}
		l.conn.expel(CauseSlow, CloseSlow, "server is short of memory")
		excess -= l.weight
	}
}
