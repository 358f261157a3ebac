package memengine

import (
	"testing"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/brokertest"
)

func TestBroker(t *testing.T) {
	brokertest.Run(t, func(t *testing.T) broker.Broker {
		e := New(1)
		t.Cleanup(e.Close)
		return e.Broker()
	})
}
