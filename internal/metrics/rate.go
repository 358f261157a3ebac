package metrics

import (
	"sync"
	"time"
)

const (
	rateWindow = 10 * time.Second
	rateCells  = 100
	rateCell   = rateWindow / rateCells
)

// rate counts the events of the last rateWindow, in a ring of cells of a tenth of a second. The
// zero value is ready.
type rate struct {
	mu    sync.Mutex
	cells [rateCells]struct{ at, n int64 }
}

func (r *rate) add(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := now.UnixNano() / int64(rateCell)
	cell := &r.cells[at%rateCells]
	if cell.at != at {
		cell.at, cell.n = at, 0
	}
	cell.n++
}

func (r *rate) perSecond(now time.Time) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := now.UnixNano() / int64(rateCell)
	var n int64
	for i := range r.cells {
		if cell := &r.cells[i]; cell.at > at-rateCells && cell.at <= at {
			n += cell.n
		}
	}
	return float64(n) / rateWindow.Seconds()
}
