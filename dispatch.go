package realtime

import (
	"log/slog"

	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/names"
	"github.com/realtime-go/realtime/internal/wire"
)

// dispatcher does what clients ask for.
type dispatcher struct {
	m        *Manager
	requests *requester
}

func newDispatcher(m *Manager) *dispatcher {
	d := &dispatcher{m: m}
	d.requests = newRequester(d)
	return d
}

// run does one command of c.
func (d *dispatcher) run(c *Conn, cmd wire.Command) {
	switch cmd.Kind {
	case wire.CmdPing:
		c.answer(wire.Pong())
	case wire.CmdChat:
		d.chat(c, cmd)
	case wire.CmdRequest:
		d.requests.serve(c, cmd.Req)
	}
}

func (d *dispatcher) chat(c *Conn, cmd wire.Command) {
	var to Target
	switch cmd.Target {
	case wire.TargetAll:
		to = ToAll()
	case wire.TargetRoom:
		to = ToRoom(c.currentRoom())
	default:
		if names.CheckUser(cmd.Target) == nil { // else nobody: there can be no such user
			to = ToUser(cmd.Target)
		}
	}
	msg := chat(c.UserID(), cmd.Text)
	msg.Guest = c.sender().Guest
	err := c.guard(func() error {
		if !d.allowed(c, Action{Kind: ActionSend, Target: to}) {
			return nil // and a plain client is not told
		}
		if d.m.opts.OnMessage != nil {
			return d.m.opts.OnMessage(c.session.Context(), c, Inbound{Text: string(cmd.Text), Target: to, Message: msg})
		}
		_, err := d.send(c, to, msg)
		return err
	})
	if err != nil {
		d.failed(c, err)
	}
}

// send is what becomes of a message if the application does not see it.
func (d *dispatcher) send(c *Conn, to Target, msg Message) (Result, error) {
	res, err := d.m.relay(c.session.Context(), to, msg)
	c.session.Bill().Receivers(res.Matched)
	return res, err
}

// failed counts what failed for another reason than that it may not be.
func (d *dispatcher) failed(c *Conn, err error) {
	d.m.counters.Add(metrics.Failed, 1)
	d.m.notes.Log(c.session.Context(), slog.LevelDebug, c.source(), "realtime: message failed",
		slog.String("conn", c.id), slog.Any("error", err))
}

// allowed asks the authorizer.
func (d *dispatcher) allowed(c *Conn, a Action) bool {
	if d.m.opts.Authorize == nil {
		d.m.counters.Add(metrics.Denied, 1)
		d.m.notes.Once(slog.LevelWarn, "authorize", "", "realtime: a client's action was refused "+
			"because nothing allows it: set Options.Authorize")
		return false
	}
	if err := d.m.opts.Authorize(c.session.Context(), c, a); err != nil {
		d.m.counters.Add(metrics.Denied, 1)
		d.m.notes.Log(c.session.Context(), slog.LevelDebug, c.source(), "realtime: action refused",
			slog.String("conn", c.id), slog.String("action", string(a.Kind)),
			slog.Any("error", err))
		return false
	}
	return true
}
