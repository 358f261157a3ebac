package session

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/inbound"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/transport"
)

// torn is a transport on which a ping arrives in two pieces when it is woken, and nothing else.
type torn struct {
	transport.Transport
	events transport.Events
	pieces int
}

func (c *torn) Attach(q *sendqueue.Queue, e transport.Events, most int) {
	c.events = e
	c.Transport.Attach(q, e, most)
}

func (c *torn) Park() bool { return c.pieces == 0 && c.Transport.Park() }

func (c *torn) Next(buf []byte, wait bool) (sendqueue.Op, []byte, error) {
	if c.pieces == 0 {
		return c.Transport.Next(buf, wait)
	}
	for ; c.pieces > 0; c.pieces-- {
		c.events.Waiting(c.pieces == 1, 0)
		c.events.Alive(3)
	}
	return 0, nil, inbound.ErrQuiet
}

// A ping that arrives in two pieces leaves nothing behind when the connection is parked again.
func TestHalfPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := transport.Pipe()
		c := &torn{Transport: near, pieces: 2}
		serve(c, far, ignore{}, func(s *Session, counters *metrics.Counters) {
			synctest.Wait()
			require.Zero(t, s.HalfRead())
			require.Zero(t, counters.Queues.Budget.Held())
			time.Sleep(time.Minute)
			require.NoError(t, context.Cause(s.Context()))
		})
	})
}

// A connection whose messages cause no command is parked again, too: a client that only answers
// calls must not keep a goroutine.
func TestQuietWithoutCommandsIsParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := transport.Pipe()
		serve(near, far, ignore{}, func(s *Session, counters *metrics.Counters) {
			require.NoError(t, far.Write([]byte("neither a command nor an answer")))
			synctest.Wait()
			require.EqualValues(t, 1, counters.Get(metrics.Ignored))
			require.False(t, s.watch.parked.Load())
			time.Sleep(quietTime + 2*lookInterval)
			require.True(t, s.watch.parked.Load())
		})
	})
}
