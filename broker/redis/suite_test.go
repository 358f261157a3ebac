package redis_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/brokertest"
	"github.com/realtime-go/realtime/broker/redis"
)

func TestConformance(t *testing.T) {
	s := start(t)
	var n atomic.Int64
	brokertest.Run(t, func(t *testing.T) broker.Broker {
		o := s.options()
		o.Prefix = fmt.Sprint("test", n.Add(1))
		b, err := redis.New(o)
		require.NoError(t, err)
		return b
	})
}
