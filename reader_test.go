package realtime

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/engine"
)

// halfway is a transport on which a frame has begun that never ends.
type halfway struct {
	*pipe
	inside chan bool // what it waits in, now and then
}

func (h *halfway) park() bool  { return false }
func (h *halfway) nudge() bool { return false }

func (h *halfway) receive(buf []byte, wait bool) (engine.Op, []byte, error) {
	for inside := range h.inside {
		h.ears.waiting(inside)
	}
	return h.pipe.receive(buf, wait)
}

func TestHalfAMessageEndsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(&Options{PingInterval: -1, StaleAfter: -1, Logger: slog.New(slog.DiscardHandler)})
		defer func() { _ = m.Close() }()
		transport, far := Pipe()
		defer far.Drop()
		h := &halfway{transport.(*pipe), make(chan bool)}
		defer close(h.inside)
		c, err := m.Register(context.Background(), h, Identity{})
		require.NoError(t, err)
		h.inside <- true
		time.Sleep(9 * time.Second)
		h.inside <- false // it has come to its end
		for range 5 {     // and now and then something comes of another
			h.inside <- true
			time.Sleep(9 * time.Second)
			h.inside <- false
		}
		time.Sleep(time.Minute)
		require.False(t, c.ended())
		h.inside <- true
		time.Sleep(messagePatience - second)
		h.inside <- true // something, but not the end
		require.False(t, c.ended())
		time.Sleep(2 * second)
		require.True(t, c.ended())
		require.Equal(t, &CloseError{
			Cause: CauseProtocol, Code: ClosePolicy, Reason: "message took too long",
		}, context.Cause(c.Context()))
	})
}
