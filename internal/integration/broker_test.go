package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/memory"
)

func TestBrokerConnectsTwoManagers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wire := &sharedBroker{}
		one := newBed(t, realtime.Options{Broker: wire})
		two := newBed(t, realtime.Options{Broker: wire})
		alice, bob, bob2 := one.open("alice"), two.open("bob"), one.open("bob")
		one.join("lobby", alice)
		two.join("lobby", bob)
		alice.discard()
		bob.discard()
		bob2.discard()
		alice.say("hi", "room")
		require.Equal(t, []string{"alice: hi"}, alice.got())
		require.Equal(t, []string{"alice: hi"}, bob.got())
		alice.say("psst", "bob")
		require.Equal(t, []string{"alice: psst"}, bob.got())
		require.Equal(t, []string{"alice: psst"}, bob2.got())
		res := one.news(realtime.ToAll().Except(bob.conn.ID()), "x")
		require.Equal(t, realtime.Result{}, res, "the broker does not report numbers")
		require.Empty(t, bob.got())
		require.Equal(t, []string{`news "x"`}, bob2.got())
		alice.discard()
		_, err := wire.Publish(t.Context(), broker.Publication{
			Target: broker.Target{All: true}, Message: broker.Message{Type: "welcome"},
		})
		require.NoError(t, err)
		require.Empty(t, alice.got(), "messages of a broker are checked like other input")
	})
}

func TestBrokerOpenFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, realtime.Options{Broker: &sharedBroker{fail: errors.New("no route")}})
		_, err := b.Send(t.Context(), realtime.ToAll(), realtime.Message{})
		require.ErrorContains(t, err, "no route")
	})
}

func TestSecondManagerOfABroker(t *testing.T) {
	o := keeping(10)
	o.Broker = memory.New(nil)
	bubble(t, o, func(t *testing.T, b *bed) {
		synctest.Wait() // the Manager has opened the broker
		other := newBed(t, o)
		_, err := other.Send(t.Context(), realtime.ToRoom("hall"), realtime.Message{})
		require.ErrorContains(t, err, "serves another Manager")
		require.NoError(t, other.Close())
		require.Equal(t, 1, b.news(realtime.ToRoom("hall"), "still here").Kept)
	})
}

// sharedBroker is a broker in memory that connects several Managers of one process.
type sharedBroker struct {
	memory.Broker // it keeps nothing here

	mu    sync.Mutex
	sinks []broker.Sink
	fail  error
}

func (b *sharedBroker) Open(_ context.Context, s broker.Sink) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sinks = append(b.sinks, s)
	return b.fail
}

func (b *sharedBroker) Local() bool { return false }

func (b *sharedBroker) Publish(
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

func (b *sharedBroker) Close(context.Context) error { return nil }

// unsubscribable is a broker whose Subscribe returns an error as long as fail is set.
type unsubscribable struct {
	*memory.Broker
	fail error
}

func (u *unsubscribable) Subscribe(ctx context.Context, stream string) (broker.Position, error) {
	if u.fail != nil {
		return broker.Position{}, u.fail
	}
	return u.Broker.Subscribe(ctx, stream)
}

// A join fails if the broker does not subscribe to the room, and the next join tries again.
func TestBrokerSubscribeFails(t *testing.T) {
	o := keeping(10)
	u := &unsubscribable{Broker: memory.New(nil), fail: errors.New("no route")}
	o.Broker = u
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		_, err := b.Join(t.Context(), alice.conn.ID(), "hall")
		require.ErrorIs(t, err, u.fail)
		require.Empty(t, alice.conn.Rooms())
		u.fail = nil
		_, err = b.Join(t.Context(), alice.conn.ID(), "hall")
		require.NoError(t, err)
		alice.discard()
		b.sendWords(1, 1)
		require.Len(t, alice.raw(), 1)
	})
}
