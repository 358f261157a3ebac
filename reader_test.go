package realtime

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/transport"
)

// halfway is a transport on which a frame has begun that never ends.
type halfway struct {
	transport.Transport
	events transport.Events
	inside chan bool // what it waits in, now and then
	came   chan int  // how many bytes come of it
}

func (h *halfway) Park() bool      { return false }
func (h *halfway) Interrupt() bool { return false }

func (h *halfway) Attach(q *sendqueue.Queue, e transport.Events, most int) {
	h.events = e
	h.Transport.Attach(q, e, most)
}

func (h *halfway) Next(buf []byte, wait bool) (sendqueue.Op, []byte, error) {
	for {
		select {
		case n := <-h.came:
			h.events.Alive(n)
		case inside, ok := <-h.inside:
			if !ok {
				return h.Transport.Next(buf, wait)
			}
			h.events.Waiting(inside)
		}
	}
}

// slowly runs a test with a connection of which half a message has come.
func slowly(t *testing.T, test func(t *testing.T, h *halfway, c *Conn)) {
	synctest.Test(t, func(t *testing.T) {
		m := New(&Options{PingInterval: -1, StaleAfter: -1, Logger: slog.New(slog.DiscardHandler)})
		defer func() { _ = m.Close() }()
		near, far := Pipe()
		defer far.Drop()
		h := &halfway{Transport: near.t, inside: make(chan bool), came: make(chan int)}
		defer close(h.inside)
		c, err := m.Register(context.Background(), Transport{h}, Identity{})
		require.NoError(t, err)
		h.inside <- true
		test(t, h, c)
	})
}

// What counts is what comes: a KiB a second, up to the size of the largest message.
func TestHalfAMessageThatGoesOn(t *testing.T) {
	for name, x := range map[string]struct{ bytes, seconds, lasts int }{
		"a KiB a second":         {1024, 1, 74},
		"9 KiB in nine seconds":  {9 << 10, 9, 65},
		"5 KB a second":          {5000, 1, 23}, // nothing puts it off any more after 13
		"half a KiB a second":    {512, 1, 20},
		"10 KiB in 11 s":         {10 << 10, 11, 10},
		"a lot, and nothing":     {64 << 10, 3600, 10},
		"pings inside a message": {20 * 131, 1, 35},
	} {
		t.Run(name, func(t *testing.T) {
			slowly(t, func(t *testing.T, h *halfway, c *Conn) {
				for range 100 {
					h.came <- x.bytes
					h.inside <- true
					time.Sleep(time.Duration(x.seconds) * time.Second)
					if c.ended() {
						break
					}
				}
				require.InDelta(t, x.lasts, time.Duration(c.over.Load()).Seconds(), 1)
			})
		})
	}
}

func TestHalfAMessageEndsTheConnection(t *testing.T) {
	slowly(t, func(t *testing.T, h *halfway, c *Conn) {
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
