package integration_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/memory"
)

// What comes live while a member reads what was lost is not lost for that.
func TestDeliveryDuringRecoveryOfALoss(t *testing.T) {
	puppetry(t, func(t *testing.T, b *bed, p *puppet, alice *client, r *reader) {
		p.silently(func() { b.tell(3, 3) })
		p.once("read", func() { b.tell(4, 4) })
		p.Lost(hall)
		r.hear(alice.raw())
		require.Equal(t, words(3, 4), r.said())
	})
}

// A second loss while a member looks into the first is looked into too.
func TestLossDuringRecoveryOfALoss(t *testing.T) {
	puppetry(t, func(t *testing.T, b *bed, p *puppet, alice *client, r *reader) {
		p.once("read", func() {
			p.silently(func() { b.tell(3, 3) })
			p.Lost(hall)
		})
		p.Lost(hall)
		r.hear(alice.raw())
		require.Equal(t, words(3, 3), r.said())
	})
}

// A broker that has forgotten the stream is asked once, and the client is told once.
func TestLossOfAStream(t *testing.T) {
	puppetry(t, func(t *testing.T, b *bed, p *puppet, alice *client, _ *reader) {
		reads := 0
		p.page = func(page *broker.Page) {
			reads++
			require.Less(t, reads, 10)
			*page = broker.Page{}
		}
		p.Lost(hall)
		frames := alice.raw()
		require.Len(t, frames, 1)
		require.Contains(t, frames[0], `"reason":"unknown"`)
	})
}

// Nobody was there to look into a loss when it was reported.
func TestLossDuringAJoin(t *testing.T) {
	o := keeping(100)
	p := newPuppet()
	o.Broker = p
	bubble(t, o, func(t *testing.T, b *bed) {
		p.once("read", func() {
			p.silently(func() { b.tell(1, 1) })
			p.Lost(hall)
		})
		_, r := b.follow("alice", `,"history":5`)
		require.Equal(t, words(1, 1), r.said())
	})
}

func TestLossDuringOnConnect(t *testing.T) {
	o := inboxes(100)
	p := newPuppet()
	o.Broker = p
	var lose func()
	o.OnConnect = func(context.Context, *realtime.Conn) error {
		lose()
		return nil
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		lose = func() {
			p.silently(func() { b.write("bob", 1, 1) })
			p.Lost(broker.InboxStream("bob"))
		}
		require.Equal(t, words(1, 1), b.check(realtime.Identity{UserID: "bob"}).said())
	})
}

// The last member has left, and somebody comes back before the broker knows: what is delivered to
// the old subscription is not the end of the stream for the new one.
func TestJoinBetweenTwoSubscriptions(t *testing.T) {
	puppetry(t, func(t *testing.T, b *bed, p *puppet, alice *client, r *reader) {
		unsubscribed, subscribed := p.hold("unsubscribe"), p.hold("subscribe")
		alice.asks(`{"type":"leave","id":2,"room":"hall"}`)
		r.at.Offset = 3
		require.Empty(t, alice.asks(`{"type":"join","id":3,"room":"hall"`+since(r.at)+`}`))
		b.tell(3, 3)
		unsubscribed()
		b.tell(4, 4)
		subscribed()
		r.hear(alice.raw())
		require.Equal(t, words(4, 4), r.said())
	})
}

// What a broker has lost in the middle of a stream is a gap, and what is behind it comes.
func TestDamagedStreams(t *testing.T) {
	o := keeping(100)
	o.Inbox = inboxes(100).Inbox
	d := &damaged{Broker: memory.New(nil)}
	o.Broker = d
	bubble(t, o, func(t *testing.T, b *bed) {
		b.write("bob", 1, 5)
		d.floor.Store(3)
		bob := b.check(realtime.Identity{UserID: "bob"})
		require.Equal(t, words(4, 5), bob.said())
		require.Equal(t, []string{"epoch"}, bob.gaps)
		b.write("bob", 6, 6)
		bob.listen()
		require.Equal(t, words(6, 6), bob.said())
		require.Equal(t, []string{"epoch"}, bob.gaps)
	})
}

// damaged is a broker that has lost what it kept up to an offset, and goes on in the same epoch.
type damaged struct {
	*memory.Broker
	floor atomic.Uint64
}

func (d *damaged) Read(ctx context.Context, name string, q broker.Query) (broker.Page, error) {
	floor := d.floor.Load()
	q.After = max(q.After, floor)
	page, err := d.Broker.Read(ctx, name, q)
	if floor > page.Floor {
		page.Floor, page.Why = floor, realtime.ReasonEpoch
	}
	return page, err
}
