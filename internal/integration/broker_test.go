package integration_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/memory"
)

func TestBrokerOpenFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := keeping(10)
		o.Broker = unopened{memory.New(nil)}
		b := newBed(t, o)
		_, err := b.Send(t.Context(), realtime.ToRoom("hall"), realtime.Message{})
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

// unopened is a broker that cannot be opened.
type unopened struct{ *memory.Broker }

func (unopened) Open(context.Context, broker.Sink) error { return errors.New("no route") }

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
