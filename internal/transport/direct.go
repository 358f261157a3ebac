package transport

import (
	"errors"
	"net/http"

	"github.com/realtime-go/realtime/internal/disconnect"
	"github.com/realtime-go/realtime/internal/inbound"
	"github.com/realtime-go/realtime/internal/sendqueue"
)

// direct is a WebSocket over a plain socket without compression. Its intake assembles the messages,
// and lets the connection park between them.
type direct struct {
	webSocket
	intake inbound.Intake
}

func newDirect(s webSocket, h http.Header, r *http.Request, early []byte, v1 bool) *direct {
	s.answer = accepted(h, r.Header.Get(headerKey), v1)
	d := &direct{webSocket: s}
	d.intake.Init(s.shared.intakes, s.nc, s.raw, early)
	return d
}

func (*direct) Deflates() bool    { return false }
func (d *direct) Interrupt() bool { return d.intake.Interrupt() }
func (d *direct) Ahead() bool     { return d.intake.Ahead() }
func (d *direct) Park() bool      { return d.intake.Park() }
func (*direct) Unseen() int       { return 0 }
func (d *direct) Release()        { d.intake.Release() }

func (d *direct) Attach(q *sendqueue.Queue, e Events, maxMessage int) {
	d.attach(q, e)
	d.intake.Begin(d, maxMessage)
}

func (d *direct) Next(buf []byte, wait bool) (sendqueue.Op, []byte, error) {
	op, p, err := d.intake.Message(buf, wait)
	switch {
	case errors.Is(err, inbound.ErrQuiet):
		return 0, nil, inbound.ErrQuiet
	case err != nil:
		return 0, nil, failed(err)
	case sendqueue.Op(op) == sendqueue.OpClose:
		return 0, nil, closedByPeer(disconnect.ClosePayload(p))
	}
	return sendqueue.Op(op), p, nil
}
