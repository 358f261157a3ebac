package session

import (
	"cmp"
	"time"

	"github.com/realtime-go/realtime/internal/disconnect"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/timerwheel"
)

// emptyPing is the ping of heartbeats.
var emptyPing = sendqueue.NewFrame(sendqueue.OpPing, nil)

// heartbeat finds out whether a silent peer is still there. It has no goroutine and no timer of its
// own: the wheel calls beat.
type heartbeat struct {
	s      *Session
	timer  timerwheel.Timer
	pinged time.Duration // when the ping was sent that was not answered yet; or 0
	ahead  time.Duration // how long the slowest permitted peer needed for what was on the wire then
}

// start begins, unless heartbeats are off.
func (h *heartbeat) start() {
	if h.s.pool.PingInterval > 0 {
		h.timer.Fire = h.beat
		h.s.pool.Wheel.Set(&h.timer, h.s.pool.PingInterval)
	}
}

// StopHeartbeat ends the heartbeat, after End.
func (s *Session) StopHeartbeat() { s.pool.Wheel.Stop(&s.heart.timer) }

// beat runs in the goroutine of the wheel.
func (h *heartbeat) beat() {
	s, p := h.s, h.s.pool
	if s.Ended() {
		return
	}
	if p.PongTimeout > 0 && s.lively() < h.pinged {
		left := p.PongTimeout - max(0, s.silence(h.pinged)-h.ahead)
		if left <= 0 {
			s.Expel(disconnect.CauseTimeout, disconnect.CloseTimeout, "no sign of life")
			return
		}
		p.Wheel.Set(&h.timer, left)
		return
	}
	h.pinged = 0
	if left := p.PingInterval - (s.now() - s.lively()); left > 0 {
		p.Wheel.Set(&h.timer, left)
		return
	}
	h.pinged, h.ahead = s.now(), max(0, time.Until(s.queue.Due()))
	s.pings.beat()
	s.queue.Heartbeat(emptyPing)
	p.Wheel.Set(&h.timer, min(cmp.Or(p.PongTimeout, p.PingInterval), p.PingInterval))
}
