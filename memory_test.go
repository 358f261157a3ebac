package realtime_test

import (
	"testing"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/brokertest"
)

func TestMemoryKeepsThePromises(t *testing.T) {
	brokertest.Run(t, func(*testing.T) realtime.Broker { return realtime.NewMemory(nil) })
}
