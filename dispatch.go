package realtime

import (
	"context"
	"log/slog"

	"github.com/realtime-go/realtime/internal/engine"
)

// dispatcher does what clients ask for.
type dispatcher struct {
	authorize Authorizer
	onMessage MessageFunc
	relay     func(context.Context, Target, Message) (Result, error) // of what Chat returns
	tally     *tally
	notes     *notes
}

// run does one command of c.
func (d *dispatcher) run(c *Conn, cmd command) {
	switch cmd.kind {
	case cmdPing:
		d.tally.add(cMatched, 1)
		answer := &frames{protoPlain: {plain: pong()}}
		c.push(answer, engine.Reply, engine.Disconnect)
		answer.settle(d.tally)
	case cmdChat:
		d.chat(c, cmd)
	}
}

func (d *dispatcher) chat(c *Conn, cmd command) {
	var to Target
	switch cmd.target {
	case targetAll:
		to = ToAll()
	case targetRoom:
		to = ToRoom(c.currentRoom())
	default:
		if validUser(cmd.target) == nil { // else nobody: there can be no such user
			to = ToUser(cmd.target)
		}
	}
	msg := chat(c.UserID(), cmd.text)
	err := guard(d.notes, d.tally, c, func() error {
		if !d.allowed(c, Action{Kind: ActionSend, Target: to}) {
			return nil
		}
		if d.onMessage != nil {
			return d.onMessage(c.ctx, c, Inbound{Text: string(cmd.text), Target: to, Message: msg})
		}
		_, err := d.relay(c.ctx, to, msg)
		return err
	})
	if err != nil {
		d.tally.add(cFailed, 1)
		d.notes.write(c.ctx, slog.LevelDebug, c.id, "realtime: message failed",
			slog.String("conn", c.id), slog.Any("error", err))
	}
}

// allowed asks the authorizer. A plain client is not told of a refusal.
func (d *dispatcher) allowed(c *Conn, a Action) bool {
	if d.authorize == nil {
		d.tally.add(cDenied, 1)
		d.notes.hint(slog.LevelWarn, "authorize", "", "realtime: a client's action was refused "+
			"because nothing allows it: set Options.Authorize")
		return false
	}
	if err := d.authorize(c.ctx, c, a); err != nil {
		d.tally.add(cDenied, 1)
		d.notes.write(c.ctx, slog.LevelDebug, c.id, "realtime: action refused",
			slog.String("conn", c.id), slog.String("action", string(a.Kind)),
			slog.Any("error", err))
		return false
	}
	return true
}
