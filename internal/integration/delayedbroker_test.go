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

// distant is a broker that takes its time for everything: what it delivers can be read before, some
// of it is lost on the way, and it says so.
type distant struct {
	*memory.Broker
	sink broker.Sink
	work sync.WaitGroup

	mu   sync.Mutex
	dice *rand.Rand
	late []broker.Publication
	busy bool
}

func (d *distant) Open(ctx context.Context, s broker.Sink) error {
	d.sink = s
	return d.Broker.Open(ctx, d)
}

func (d *distant) Lost(string) {}

func (d *distant) Deliver(p broker.Publication) {
	var far broker.Publication // as if it came from another process
	if data, err := p.AppendBinary(nil); err != nil || far.UnmarshalBinary(data) != nil {
		panic("it is not what was published")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.late = append(d.late, far)
	if !d.busy {
		d.busy = true
		d.work.Go(d.carry)
	}
}

func (d *distant) carry() {
	for {
		d.travel()
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

func (d *distant) next() (p broker.Publication, lost, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.busy = len(d.late) > 0; !d.busy {
		return p, false, false
	}
	p, d.late = d.late[0], d.late[1:]
	return p, d.dice.IntN(8) == 0, true
}

func (d *distant) travel() {
	d.mu.Lock()
	takes := time.Duration(d.dice.IntN(3)) * time.Millisecond
	d.mu.Unlock()
	time.Sleep(takes)
}

func (d *distant) Read(ctx context.Context, stream string, q broker.Query) (broker.Page, error) {
	d.travel()
	defer d.travel()
	return d.Broker.Read(ctx, stream, q)
}

func (d *distant) Subscribe(ctx context.Context, stream string) (broker.Position, error) {
	d.travel()
	defer d.travel()
	return d.Broker.Subscribe(ctx, stream)
}

func (d *distant) Unsubscribe(ctx context.Context, stream string) error {
	d.travel()
	defer d.travel()
	return d.Broker.Unsubscribe(ctx, stream)
}

// Whatever a broker delivers late or not at all, and whoever comes and goes meanwhile, each member
// gets everything once and in order.
func TestRecoveryFromADelayedBroker(t *testing.T) {
	for seed := range schedules() {
		o := keeping(10_000)
		o.QueueMessages, o.InboundRate = 8, -1
		if seed%2 == 0 {
			o.QueueMessages, o.Slow = 64, realtime.SlowDisconnect
		}
		d := &distant{Broker: memory.New(nil), dice: rand.New(rand.NewPCG(seed, 3))}
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
				m.c, m.reader = b.follow(m.user, "")
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
