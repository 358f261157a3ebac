package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/memory"
)

func TestStatsSub(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		b.open("alice").say("1", "all")
		synctest.Wait()
		old := b.Stats()
		require.EqualValues(t, 2, old.Written, "welcome and chat")
		bob := b.open("bob")
		bob.say("2", "all")
		bob.hush()
		delta := b.Stats().Sub(old)
		require.Equal(t, 2, delta.Conns, "gauges are of now")
		require.EqualValues(t, 1, delta.Accepted)
		require.EqualValues(t, 1, delta.Messages)
		require.EqualValues(t, 1, delta.Received)
		require.EqualValues(t, 3, delta.Written)
		require.Zero(t, b.Stats().Sub(b.Stats()).Accepted)
	})
}

func TestRateSlides(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		require.Zero(t, b.Stats().Rate)
		for range 100 {
			b.news(realtime.ToAll(), "x")
			time.Sleep(100 * time.Millisecond)
		}
		require.InDelta(t, 10, b.Stats().Rate, 0.2)
		time.Sleep(5 * time.Second)
		require.InDelta(t, 5, b.Stats().Rate, 0.2)
		time.Sleep(5 * time.Second)
		require.Zero(t, b.Stats().Rate)
	})
}

// What was counted in between is the difference of two snapshots; gauges are those of the second.
func TestStatsBetween(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice := b.open("alice")
		before := b.Stats()
		for range 5 {
			alice.say("x", "all")
		}
		synctest.Wait()
		bob := b.open("bob")
		alice.Drop()
		synctest.Wait()
		since := b.Stats().Sub(before)
		require.EqualValues(t, 5, since.Messages)
		require.EqualValues(t, 5, since.Received)
		require.EqualValues(t, 1, since.Accepted)
		require.EqualValues(t, 1, since.Ended.Lost)
		require.Equal(t, 1, since.Conns, "bob")
		bob.hush()
	})
}

// A Cause is its word in a log, whatever the handler.
func TestCauseIsText(t *testing.T) {
	var log bytes.Buffer
	why := &realtime.CloseError{Cause: realtime.CauseSlow, Code: realtime.CloseSlow}
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "cause", why.Cause, "why", why)
	require.Contains(t, log.String(), `"cause":"slow"`)
	require.Contains(t, log.String(), `"why":"realtime: `)
	log.Reset()
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "cause", why.Cause)
	require.Contains(t, log.String(), "cause=slow")
}

func TestOneLogLineForEachEnd(t *testing.T) {
	var log bytes.Buffer
	o := realtime.Options{Logger: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	bubble(t, o, func(t *testing.T, b *bed) {
		bob := b.open("bob")
		require.NoError(t, bob.PipeClient.Close(4000, strings.Repeat("long ", 20)))
		time.Sleep(3 * time.Second)
		synctest.Wait()
		var line map[string]any
		require.NoError(t, json.Unmarshal(log.Bytes(), &line), "one line: %s", log.String())
		require.Equal(t, "bob", line["user"])
		require.Equal(t, "client", line["cause"])
		require.EqualValues(t, 4000, line["code"])
		require.Len(t, line["reason"], 64, "a peer's words are cut")
		require.Equal(t, "DEBUG", line["level"])
	})
}

// bus is a broker in memory: it makes Managers of one process one.
type bus struct {
	memory.Broker // keeps nothing here

	mu    sync.Mutex
	sinks []broker.Sink
	fail  error
}

func (b *bus) Open(_ context.Context, s broker.Sink) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sinks = append(b.sinks, s)
	return b.fail
}

func (b *bus) Local() bool { return false }

func (b *bus) Publish(
	_ context.Context, parts ...broker.Publication,
) ([]broker.Published, error) {
	wire, err := json.Marshal(parts) // publications are plain data
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.sinks {
		var copied []broker.Publication
		if err := json.Unmarshal(wire, &copied); err != nil {
			return nil, err
		}
		for _, p := range copied {
			s.Deliver(p)
		}
	}
	return make([]broker.Published, len(parts)), nil
}

func (b *bus) Close(context.Context) error { return nil }

func TestBrokerMakesTwoManagersOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := &bus{}
		one := newBed(t, realtime.Options{Broker: wire})
		two := newBed(t, realtime.Options{Broker: wire})
		alice, bob, bob2 := one.open("alice"), two.open("bob"), one.open("bob")
		one.join("lobby", alice)
		two.join("lobby", bob)
		alice.hush()
		bob.hush()
		bob2.hush()
		alice.say("hi", "room")
		require.Equal(t, []string{"alice: hi"}, alice.got())
		require.Equal(t, []string{"alice: hi"}, bob.got())
		alice.say("psst", "bob")
		require.Equal(t, []string{"alice: psst"}, bob.got())
		require.Equal(t, []string{"alice: psst"}, bob2.got())
		res := one.news(realtime.ToAll().Except(bob.conn.ID()), "x")
		require.Equal(t, realtime.Result{}, res, "nobody knows the numbers")
		require.Empty(t, bob.got())
		require.Equal(t, []string{`news "x"`}, bob2.got())
		alice.hush()
		_, err := wire.Publish(t.Context(), broker.Publication{
			Target: broker.Target{All: true}, Message: broker.Message{Type: "welcome"},
		})
		require.NoError(t, err)
		require.Empty(t, alice.got(), "what a broker brings is checked like any other input")
	})
}

func TestBrokerThatDoesNotOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, realtime.Options{Broker: &bus{fail: errors.New("no route")}})
		_, err := b.Send(t.Context(), realtime.ToAll(), realtime.Message{})
		require.ErrorContains(t, err, "no route")
	})
}
