package brokertest

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

func endRules() []rule {
	return []rule{
		{"a second Sink is refused", secondSink},
		{"all methods return ErrClosed after Close", closed},
		{"Close waits for Deliver", closeWaits},
		{"all methods return the error of an ended context", ended},
		{"Close while others publish", closeRace},
	}
}

func secondSink(s *stage) {
	s.subscribe("room/a")
	require.Error(s.t, s.b.Open(s.t.Context(), &stage{t: s.t}))
	s.fill("room/a", 1)
	require.Len(s.t, s.delivered("room/a"), 1, "the first Sink has it")
}

// calls calls all methods that an ended context ends, and returns their errors.
func (s *stage) calls(ctx context.Context, stream string) map[string]error {
	at := broker.Position{}
	errs := map[string]error{}
	_, errs["Publish"] = s.b.Publish(ctx, note(stream, 1))
	_, errs["Publish without a stream"] = s.b.Publish(ctx, note("", 1))
	_, errs["Subscribe"] = s.b.Subscribe(ctx, stream)
	_, errs["Read"] = s.b.Read(ctx, stream, broker.Query{})
	_, errs["Cursor"] = s.b.Cursor(ctx, stream, "r")
	errs["Ack"] = s.b.Ack(ctx, stream, "r", at)
	return errs
}

func closed(s *stage) {
	s.subscribe("room/a")
	s.fill("room/a", 3)
	require.NoError(s.t, s.close())
	errs := s.calls(s.t.Context(), "room/a")
	errs["Unsubscribe"] = s.b.Unsubscribe(s.t.Context(), "room/a")
	for name, err := range errs {
		require.ErrorIs(s.t, err, broker.ErrClosed, name)
	}
	require.Len(s.t, s.delivered("room/a"), 3)
	if err := s.close(); err != nil {
		require.ErrorIs(s.t, err, broker.ErrClosed)
	}
}

func closeWaits(s *stage) {
	under, goOn := make(chan struct{}), make(chan struct{})
	var delivered atomic.Bool
	s.on = func(broker.Publication) {
		close(under)
		<-goOn
		delivered.Store(true)
	}
	s.subscribe("room/a")
	go func() { _, _ = s.b.Publish(context.Background(), note("room/a", 1)) }()
	<-under
	closing := make(chan bool, 1)
	go func() {
		_ = s.close()
		closing <- delivered.Load()
	}()
	select {
	case <-closing:
		s.t.Fatal("Close returned during Deliver")
	case <-time.After(20 * time.Millisecond):
	}
	close(goOn)
	require.True(s.t, <-closing)
}

func ended(s *stage) {
	s.fill("room/a", 1)
	ctx, cancel := context.WithCancel(s.t.Context())
	cancel()
	for name, err := range s.calls(ctx, "room/a") {
		require.ErrorIs(s.t, err, context.Canceled, name)
	}
}

func closeRace(s *stage) {
	s.subscribe("room/a")
	done := make(chan int)
	for range 4 {
		go func() {
			n := 0
			for {
				_, err := s.b.Publish(context.Background(), note("room/a", n))
				if err != nil {
					if !errors.Is(err, broker.ErrClosed) {
						s.t.Errorf("publish: %v", err)
					}
					done <- n
					return
				}
				n++
			}
		}()
	}
	s.eventually("some are delivered", func() bool { return len(s.delivered("room/a")) > 20 })
	require.NoError(s.t, s.close())
	after := len(s.delivered("room/a"))
	taken := 0
	for range 4 {
		taken += <-done
	}
	require.GreaterOrEqual(s.t, after, taken, "each publication that was taken was delivered")
	require.Len(s.t, s.delivered("room/a"), after)
}
