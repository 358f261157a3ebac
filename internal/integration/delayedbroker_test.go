package integration_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/memory"
)

// delayedBroker is a broker with a delay in every operation. Publications can be read before they
// are delivered, and some deliveries are lost and reported as lost.
type delayedBroker struct {
	*memory.Broker
	sink broker.Sink
	work sync.WaitGroup

	mu      sync.Mutex
	dice    *rand.Rand
	pending []broker.Publication
	busy    bool
}

func (d *delayedBroker) Open(ctx context.Context, s broker.Sink) error {
	d.sink = s
	return d.Broker.Open(ctx, d)
}

func (d *delayedBroker) Lost(string) {}

func (d *delayedBroker) Receive(string, []byte) {}

func (d *delayedBroker) Cut(bool) {}

func (d *delayedBroker) Deliver(p broker.Publication) {
	var far broker.Publication // the same as from another process
	if data, err := p.AppendBinary(nil); err != nil || far.UnmarshalBinary(data) != nil {
		panic("the publication has changed")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pending = append(d.pending, far)
	if !d.busy {
		d.busy = true
		d.work.Go(d.carry)
	}
}

func (d *delayedBroker) carry() {
	for {
		d.delay()
		p, lost, ok := d.next()
		switch {
		case !ok:
			return
		case lost:
			d.sink.Lost(p.Stream)
		default:
			d.sink.Deliver(p)
		}
	}
}

func (d *delayedBroker) next() (p broker.Publication, lost, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.busy = len(d.pending) > 0; !d.busy {
		return p, false, false
	}
	p, d.pending = d.pending[0], d.pending[1:]
	return p, d.dice.IntN(8) == 0, true
}

func (d *delayedBroker) delay() {
	d.mu.Lock()
	takes := time.Duration(d.dice.IntN(3)) * time.Millisecond
	d.mu.Unlock()
	time.Sleep(takes)
}

func (d *delayedBroker) Read(ctx context.Context, stream string, q broker.Query) (broker.Page, error) {
	d.delay()
	defer d.delay()
	return d.Broker.Read(ctx, stream, q)
}

func (d *delayedBroker) Subscribe(ctx context.Context, stream string) (broker.Position, error) {
	d.delay()
	defer d.delay()
	return d.Broker.Subscribe(ctx, stream)
}

func (d *delayedBroker) Unsubscribe(ctx context.Context, stream string) error {
	d.delay()
	defer d.delay()
	return d.Broker.Unsubscribe(ctx, stream)
}

// Each member receives each message once and in order, although the broker delivers late or not at
// all and connections open and close meanwhile.
func TestRecoveryFromADelayedBroker(t *testing.T) {
	for seed := range schedules() {
		o := keeping(10_000)
		o.Limits.QueueMessages, o.Limits.InboundRate = 8, -1
		if seed%2 == 0 {
			o.Limits.QueueMessages, o.Slow = 64, realtime.SlowDisconnect
		}
		d := &delayedBroker{Broker: memory.New(nil), dice: rand.New(rand.NewPCG(seed, 3))}
		o.Broker = d
		bubble(t, o, func(t *testing.T, b *bed) {
			dice, n := rand.New(rand.NewPCG(seed, 4)), 0
			say := func(most int) {
				for range dice.IntN(most) {
					n++
					b.news(realtime.ToRoom("hall"), fmt.Sprint("m", n))
				}
			}
			members := make([]member, 3)
			for i := range members {
				m := &members[i]
				m.user = fmt.Sprint("u", i)
				m.c, m.streamClient = b.follow(m.user, "")
				time.Sleep(20 * time.Millisecond)
				m.listen()
			}
			for range 40 {
				m := &members[dice.IntN(len(members))]
				switch dice.IntN(5) {
				case 0, 1:
					say(10)
				case 2:
					m.listen()
				case 3:
					time.Sleep(time.Duration(dice.IntN(5)) * time.Millisecond)
				default:
					m.listen()
					m.c.Drop()
					m.comeBack(b)
					say(6)
					time.Sleep(15 * time.Millisecond)
					m.listen()
				}
			}
			time.Sleep(time.Second)
			d.work.Wait()
			synctest.Wait()
			for i := range members {
				members[i].listen()
				require.Nil(t, members[i].c.ended())
				members[i].requireAll(n, seed)
				require.Empty(t, members[i].gaps)
			}
		})
	}
}
