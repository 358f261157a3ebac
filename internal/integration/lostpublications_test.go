package integration_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/memory"
)

// A message that is delivered while a member recovers a loss is not lost.
func TestDeliveryDuringRecoveryOfALoss(t *testing.T) {
	withFakeBroker(t, func(t *testing.T, b *bed, fb *fakeBroker, alice *client, r *streamClient) {
		fb.withoutDelivery(func() { b.sendWords(3, 3) })
		fb.afterNext("read", func() { b.sendWords(4, 4) })
		fb.Lost(hall)
		r.receive(alice.raw())
		require.Equal(t, words(3, 4), r.takeWords())
	})
}

// A loss that is reported while a member recovers another one is recovered as well.
func TestLossDuringRecoveryOfALoss(t *testing.T) {
	withFakeBroker(t, func(t *testing.T, b *bed, fb *fakeBroker, alice *client, r *streamClient) {
		fb.afterNext("read", func() {
			fb.withoutDelivery(func() { b.sendWords(3, 3) })
			fb.Lost(hall)
		})
		fb.Lost(hall)
		r.receive(alice.raw())
		require.Equal(t, words(3, 3), r.takeWords())
	})
}

// A member whose queue had no space for the last messages gets them when a loss is reported, because
// it reads anyway. They are not taken for messages to others.
func TestLossAfterDroppedMessages(t *testing.T) {
	o := keeping(5000)
	o.Slow, o.Limits.QueueMessages = realtime.SlowDropNewest, 20
	fb := newFakeBroker()
	o.Broker = fb
	bubble(t, o, func(t *testing.T, b *bed) {
		transport, far := realtime.Pipe(realtime.V1)
		slow := b.attach(transport, far, realtime.Identity{UserID: "slow"})
		require.NoError(t, far.Write([]byte(`{"type":"join","id":1,"room":"hall"}`)))
		synctest.Wait()
		n := 0
		for ; b.Stats().DroppedNewest == 0; n++ {
			b.sendWords(n+1, n+1)
			synctest.Wait() // the pipe is full before the queue
		}
		b.sendWords(n+1, n+10)
		require.EqualValues(t, 11, b.Stats().DroppedNewest)
		fb.Lost(hall)
		slow.unstall()
		r := &streamClient{t: t}
		r.receive(slow.raw()[1:])
		require.Equal(t, words(1, n+10), r.takeWords())
		require.Empty(t, r.gaps)
	})
}

// If the broker has lost the stream, it is asked once, and the client is told once.
func TestLossOfAStream(t *testing.T) {
	withFakeBroker(t, func(t *testing.T, b *bed, fb *fakeBroker, alice *client, _ *streamClient) {
		reads := 0
		fb.page = func(page *broker.Page) {
			reads++
			require.Less(t, reads, 10)
			*page = broker.Page{}
		}
		fb.Lost(hall)
		frames := alice.raw()
		require.Len(t, frames, 1)
		require.Contains(t, frames[0], `"reason":"unknown"`)
	})
}

// A loss is reported while a member is joining.
func TestLossDuringAJoin(t *testing.T) {
	o := keeping(100)
	fb := newFakeBroker()
	o.Broker = fb
	bubble(t, o, func(t *testing.T, b *bed) {
		fb.afterNext("read", func() {
			fb.withoutDelivery(func() { b.sendWords(1, 1) })
			fb.Lost(hall)
		})
		_, r := b.follow("alice", `,"history":5`)
		require.Equal(t, words(1, 1), r.takeWords())
	})
}

func TestLossDuringOnConnect(t *testing.T) {
	o := inboxes(100)
	fb := newFakeBroker()
	o.Broker = fb
	var lose func()
	o.OnConnect = func(context.Context, *realtime.Conn) error {
		lose()
		return nil
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		lose = func() {
			fb.withoutDelivery(func() { b.sendToInbox("bob", 1, 1) })
			fb.Lost(broker.InboxStream("bob"))
		}
		require.Equal(t, words(1, 1), b.openInbox(realtime.Identity{UserID: "bob"}).takeWords())
	})
}

// The last member leaves and joins again before the broker has ended the subscription. A delivery
// to the old subscription is not the end of the stream for the new one.
func TestJoinBetweenTwoSubscriptions(t *testing.T) {
	withFakeBroker(t, func(t *testing.T, b *bed, fb *fakeBroker, alice *client, r *streamClient) {
		unsubscribed, subscribed := fb.hold("unsubscribe"), fb.hold("subscribe")
		alice.request(`{"type":"leave","id":2,"room":"hall"}`)
		r.at.Offset = 3
		require.Empty(t, alice.request(`{"type":"join","id":3,"room":"hall"`+since(r.at)+`}`))
		b.sendWords(3, 3)
		unsubscribed()
		b.sendWords(4, 4)
		subscribed()
		r.receive(alice.raw())
		require.Equal(t, words(4, 4), r.takeWords())
	})
}

// Messages that the broker has lost in the middle of a stream are a gap. The messages after it
// arrive.
func TestDamagedStreams(t *testing.T) {
	o := keeping(100)
	o.Inbox = inboxes(100).Inbox
	d := &damagedBroker{Broker: memory.New(nil)}
	o.Broker = d
	bubble(t, o, func(t *testing.T, b *bed) {
		b.sendToInbox("bob", 1, 5)
		d.floor.Store(3)
		bob := b.openInbox(realtime.Identity{UserID: "bob"})
		require.Equal(t, words(4, 5), bob.takeWords())
		require.Equal(t, []string{"epoch"}, bob.gaps)
		b.sendToInbox("bob", 6, 6)
		bob.listen()
		require.Equal(t, words(6, 6), bob.takeWords())
		require.Equal(t, []string{"epoch"}, bob.gaps)
	})
}

// damagedBroker is a broker that has lost the messages up to an offset, and continues in the same
// epoch.
type damagedBroker struct {
	*memory.Broker
	floor atomic.Uint64
}

func (d *damagedBroker) Read(ctx context.Context, name string, q broker.Query) (broker.Page, error) {
	floor := d.floor.Load()
	q.After = max(q.After, floor)
	page, err := d.Broker.Read(ctx, name, q)
	if floor > page.Floor {
		page.Floor, page.Why = floor, realtime.ReasonEpoch
	}
	return page, err
}
