package realtime

import (
	"log/slog"
	"time"

	"github.com/realtime-go/realtime/internal/timerwheel"
	"github.com/realtime-go/realtime/internal/wire"
)

// expiry ends a connection whose identity is no longer good. The wheel of the Manager comes
// by when it expires, tries to have it renewed, and comes by again when the time for that is
// over.
type expiry struct {
	m     *Manager
	c     *Conn
	timer timerwheel.Timer
}

// watchExpiry looks after the identity that the connection has now.
func (c *Conn) watchExpiry() {
	if c.expiry.Load() == nil && !c.deadline().IsZero() {
		e := &expiry{m: c.m, c: c}
		e.timer.Fire = e.look
		c.expiry.CompareAndSwap(nil, e)
	}
	if e := c.expiry.Load(); e != nil {
		e.watch()
	}
}

// renew asks the application for a newer identity of the connection's user.
func (ss *sessions) renew(c *Conn, token string) error {
	if ss.m.opts.Revalidate == nil {
		return ErrForbidden
	}
	id, err := ss.m.opts.Revalidate(c.session.Context(), c, token)
	if err != nil {
		ss.m.notes.Log(c.session.Context(), slog.LevelDebug, c.source(), "realtime: identity not renewed",
			slog.String("conn", c.id), slog.Any("error", err))
		return ErrForbidden
	}
	return c.Renew(id)
}

// watch looks after the identity that the connection has now.
func (e *expiry) watch() {
	at := e.c.deadline()
	if at.IsZero() || e.c.session.Ended() {
		e.stop()
		return
	}
	e.m.wheel.Set(&e.timer, time.Until(at))
	if e.c.session.Ended() { // and stop was called in between
		e.stop()
	}
}

func (e *expiry) stop() { e.m.wheel.Stop(&e.timer) }

// look runs in the goroutine of the wheel.
func (e *expiry) look() {
	at := e.c.deadline()
	late := time.Since(at)
	switch {
	case at.IsZero() || e.c.session.Ended():
	case late < 0:
		e.m.wheel.Set(&e.timer, -late)
	case late >= e.m.opts.ExpiryGrace:
		e.c.session.Expel(CauseExpired, CloseExpired, "identity expired")
	default:
		e.c.run(e.expired)
		e.m.wheel.Set(&e.timer, e.m.opts.ExpiryGrace-late)
	}
}

// expired asks the application for another identity, or else the client for another token.
func (e *expiry) expired() {
	if e.c.session.Ended() {
		return
	}
	err := e.c.guard(func() error { return e.m.sessions.renew(e.c, "") })
	if err != nil && e.c.proto == wire.ProtoV1 {
		e.c.answer(wire.Reply(nil, nil, &wire.Error{Code: wire.CodeExpired, Message: "identity expired"}))
	}
}
