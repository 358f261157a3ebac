package realtime

import (
	"cmp"
	"time"

	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/timerwheel"
)

// heartbeat finds out whether a quiet peer is still there. It has no goroutine and
// no timer of its own: the wheel of the Manager comes by when there may be something
// to do.
type heartbeat struct {
	*heartbeats
	c *Conn

	timer  timerwheel.Timer
	pinged time.Duration // when the ping went out that is not answered yet, or 0
	ahead  time.Duration // what is in front of it takes the slowest peer
}

// heartbeats is what the heartbeats of a Manager have in common.
type heartbeats struct {
	wheel    *timerwheel.Wheel
	ping     *sendqueue.Frame
	interval time.Duration
	timeout  time.Duration
}

// start begins to watch, unless heartbeats are off.
func (h *heartbeat) start() {
	if h.interval > 0 {
		h.timer.Fire = h.beat
		h.wheel.Set(&h.timer, h.interval)
	}
}

func (h *heartbeat) stop() { h.wheel.Stop(&h.timer) }

// beat runs in the goroutine of the wheel.
func (h *heartbeat) beat() {
	if h.c.ended() {
		return
	}
	if h.timeout > 0 && h.c.lively() < h.pinged {
		left := h.timeout - max(0, h.c.silence(h.pinged)-h.ahead)
		if left <= 0 {
			h.c.expel(CauseTimeout, CloseTimeout, "no sign of life")
			return
		}
		h.wheel.Set(&h.timer, left)
		return
	}
	h.pinged = 0
	if left := h.interval - (h.c.now() - h.c.lively()); left > 0 {
		h.wheel.Set(&h.timer, left)
		return
	}
	h.pinged, h.ahead = h.c.now(), max(0, time.Until(h.c.link.Due()))
	h.c.pings.beat()
	h.c.link.Heartbeat(h.ping)
	h.wheel.Set(&h.timer, min(cmp.Or(h.timeout, h.interval), h.interval))
}

// sweep ends the connections that have been silent for longer than staleAfter.
func sweep(all *everyone, staleAfter time.Duration) {
	for _, c := range all.snapshot() {
		if !c.ended() && c.silence(0) > staleAfter {
			c.expel(CauseTimeout, CloseTimeout, "stale")
		}
	}
}
