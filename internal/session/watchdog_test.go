package session

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/disconnect"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/timerwheel"
	"github.com/realtime-go/realtime/internal/transport"
	"github.com/realtime-go/realtime/internal/wire"
)

// half is a transport on which a message begins and never ends.
type half struct {
	transport.Transport
	events transport.Events
	inside chan bool // whether it waits inside a message or between two
	came   chan int  // how many bytes arrive
}

func (h *half) Park() bool      { return false }
func (h *half) Interrupt() bool { return false }

func (h *half) Attach(q *sendqueue.Queue, e transport.Events, most int) {
	h.events = e
	h.Transport.Attach(q, e, most)
}

func (h *half) Next(buf []byte, wait bool) (sendqueue.Op, []byte, error) {
	for {
		select {
		case n := <-h.came:
			h.events.Alive(n)
		case inside, ok := <-h.inside:
			if !ok {
				return h.Transport.Next(buf, wait)
			}
			h.events.Waiting(inside, 0)
		}
	}
}

// ignore is a Handler that does nothing.
type ignore struct{}

func (ignore) Command(wire.Command)         {}
func (ignore) Ping()                        {}
func (ignore) Seen(uint64)                  {}
func (ignore) Value(any) any                { return nil }
func (ignore) Ended(*disconnect.CloseError) {}

// serve runs a test in a bubble with a session over a transport, and ends it. far is the other end.
func serve(
	near transport.Transport, far *transport.PipeClient, h Handler,
	test func(s *Session, counters *metrics.Counters),
) {
	var work, background sync.WaitGroup
	wheel := timerwheel.New(background.Go)
	counters := &metrics.Counters{}
	pool := &Pool{
		Queues: sendqueue.Config{Go: work.Go, Totals: &counters.Queues},
		Wheel:  wheel, Counters: counters, MaxMessage: 64 << 10,
	}
	s := &Session{}
	s.Init(context.Background(), pool, near, h)
	s.Start()
	s.Open()
	test(s, counters)
	s.Expel(disconnect.CauseServer, disconnect.CloseNormal, "")
	far.Drop()
	<-s.Queue().Done()
	s.Close()
	s.Wait()
	work.Wait()
	wheel.Close()
	background.Wait()
}

// halfRead runs a test with a session that has read half a message.
func halfRead(t *testing.T, test func(t *testing.T, h *half, s *Session)) {
	synctest.Test(t, func(t *testing.T) {
		near, far := transport.Pipe()
		h := &half{Transport: near, inside: make(chan bool), came: make(chan int)}
		serve(h, far, ignore{}, func(s *Session, _ *metrics.Counters) {
			h.inside <- true
			test(t, h, s)
			close(h.inside) // what is left is read from the pipe
		})
	})
}

// A message may go on as long as a KiB arrives each second, up to the size of the largest message.
func TestHalfMessageThatGoesOn(t *testing.T) {
	for name, x := range map[string]struct{ bytes, seconds, lasts int }{
		"a KiB a second":         {1024, 1, 74},
		"9 KiB in nine seconds":  {9 << 10, 9, 65},
		"5 KB a second":          {5000, 1, 23}, // nothing extends it after 13 s
		"half a KiB a second":    {512, 1, 20},
		"10 KiB in 11 s":         {10 << 10, 11, 10},
		"a lot, and nothing":     {64 << 10, 3600, 10},
		"pings inside a message": {20 * 131, 1, 35},
	} {
		t.Run(name, func(t *testing.T) {
			halfRead(t, func(t *testing.T, h *half, s *Session) {
				for range 100 {
					h.came <- x.bytes
					h.inside <- true
					time.Sleep(time.Duration(x.seconds) * time.Second)
					if s.Ended() {
						break
					}
				}
				require.InDelta(t, x.lasts, s.Over().Sub(s.Opened()).Seconds(), 1)
			})
		})
	}
}

func TestHalfMessageEndsTheSession(t *testing.T) {
	halfRead(t, func(t *testing.T, h *half, s *Session) {
		time.Sleep(9 * time.Second)
		h.inside <- false // it is complete
		for range 5 {     // and the next ones begin
			h.inside <- true
			time.Sleep(9 * time.Second)
			h.inside <- false
		}
		time.Sleep(time.Minute)
		require.False(t, s.Ended())
		h.inside <- true
		time.Sleep(messagePatience - time.Second)
		h.inside <- true // more arrived, but not the end
		require.False(t, s.Ended())
		time.Sleep(2 * time.Second)
		require.True(t, s.Ended())
		require.Equal(t, &disconnect.CloseError{
			Cause: disconnect.CauseProtocol, Code: disconnect.ClosePolicy, Reason: "message took too long",
		}, context.Cause(s.Context()))
	})
}

// Another goroutine reads handlerPatience after a handler began, whenever the watchdog looked last.
func TestHandlerHandsOverInTime(t *testing.T) {
	for before := range 12 {
		synctest.Test(t, func(t *testing.T) {
			near, far := transport.Pipe(wire.V1)
			h := &slow{goOn: make(chan struct{})}
			serve(near, far, h, func(s *Session, _ *metrics.Counters) {
				send := func() { require.NoError(t, far.Write([]byte(`{"type":"ping","id":1}`))) }
				for range before {
					send()
					h.goOn <- struct{}{}
					time.Sleep(900 * time.Millisecond)
				}
				send()
				time.Sleep(handlerPatience + time.Second/4)
				send()
				synctest.Wait()
				require.Positive(t, s.Backlog(), "after %d messages", before)
				close(h.goOn)
			})
		})
	}
}
