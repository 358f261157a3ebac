package memengine

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/brokertest"
	"github.com/realtime-go/realtime/internal/long"
)

func TestBroker(t *testing.T) {
	for name, f := range map[string]Faults{
		"no faults": {}, "losses": {Loss: 0.2}, "slow": {Delay: time.Millisecond, Loss: 0.2},
	} {
		t.Run(name, func(t *testing.T) {
			if f.Delay > 0 {
				long.Only(t, "the delays add up")
			}
			brokertest.Run(t, func(t *testing.T) broker.Broker {
				e := New(1)
				e.SetFaults(f)
				t.Cleanup(e.Close)
				return e.Broker()
			})
		})
	}
}

// shared returns an engine for the tests of brokers that share one.
func shared(e *Engine, f Faults) brokertest.Shared {
	return brokertest.Shared{
		Broker: func(*testing.T) broker.Bus { return e.Broker() },
		Cut:    func(b broker.Bus, cut bool) { e.Cut(b.(*Broker), cut) },
		Mute:   func(b broker.Bus, mute bool) { e.Mute(b.(*Broker), mute) },
		Down: func(down bool) {
			f.Down = down
			e.SetFaults(f)
		},
		Forget: e.Forget,
		Loses:  f.Loss > 0,
	}
}

func TestShared(t *testing.T) {
	faults := []Faults{{}, {Delay: 150 * time.Millisecond, Loss: 0.3}}
	if long.Enabled() {
		faults = append(faults, Faults{Delay: 20 * time.Millisecond}, Faults{Loss: 1},
			Faults{Delay: 200 * time.Millisecond}, Faults{Delay: 20 * time.Millisecond, Loss: 0.1})
	}
	for seed, f := range faults {
		t.Run(fmt.Sprint(f.Delay, f.Loss), func(t *testing.T) {
			brokertest.RunShared(t, func(t *testing.T, test func(*testing.T, brokertest.Shared)) {
				synctest.Test(t, func(t *testing.T) {
					e := New(uint64(seed))
					defer e.Close()
					e.SetFaults(f)
					test(t, shared(e, f))
				})
			})
		})
	}
}

// An engine need not have any faults.
func TestSharedWithoutFaults(t *testing.T) {
	brokertest.RunShared(t, func(t *testing.T, test func(*testing.T, brokertest.Shared)) {
		synctest.Test(t, func(t *testing.T) {
			e := New(1)
			defer e.Close()
			test(t, brokertest.Shared{Broker: shared(e, Faults{}).Broker, Loses: true})
		})
	})
}
