package metrics

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	rateWindow = 10 * time.Second
	rateCells  = 100
	rateCell   = rateWindow / rateCells
)

// rate follows the counter of messages over the last rateWindow, in a ring of cells of a tenth of a
// second. To count costs no more than a look at the current tenth, because a cell has the value of
// the counter before its first event. The zero value is ready.
type rate struct {
	at    atomic.Int64 // the tenth of the last event
	mu    sync.Mutex
	cells [rateCells]struct {
		at     int64 // the tenth
		before uint64
	}
}

// begin is called before an event is counted.
func (r *rate) begin(now time.Time, cs *Counters) {
	if at := tenth(now); at != r.at.Load() {
		r.beginCell(at, cs)
	}
}

func (r *rate) beginCell(at int64, cs *Counters) {
	r.mu.Lock()
	defer r.mu.Unlock()
	cell := &r.cells[at%rateCells]
	if d := at - cell.at; d > 0 || d <= -int64(clockStep/rateCell) {
		cell.at, cell.before = at, cs.Get(Messages)
	} // else another goroutine came first, or this one comes late
	r.at.Store(at)
}

func (r *rate) perSecond(now time.Time, total uint64) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := tenth(now)
	before := total
	for i := range r.cells {
		if cell := &r.cells[i]; cell.at > at-rateCells && cell.at <= at {
			before = min(before, cell.before)
		}
	}
	return float64(total-before) / rateWindow.Seconds()
}

func tenth(t time.Time) int64 { return t.UnixNano() / int64(rateCell) }
