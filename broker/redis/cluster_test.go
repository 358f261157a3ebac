package redis_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/brokertest"
	"github.com/realtime-go/realtime/broker/redis"
)

// startCluster starts a Redis Cluster of one server.
func startCluster(t testing.TB) *server {
	t.Helper()
	s := start(t, "--cluster-enabled", "yes")
	s.do("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
	eventually(t, func() bool {
		info, err := s.do("CLUSTER", "INFO").ToString()
		return err == nil && strings.Contains(info, "cluster_state:ok")
	})
	return s
}

func TestConformanceOfCluster(t *testing.T) {
	s := startCluster(t)
	var n atomic.Int64
	brokertest.Run(t, func(t *testing.T) broker.Broker {
		o := s.options()
		o.Cluster, o.Buckets, o.Prefix = true, 4, fmt.Sprint("test", n.Add(1))
		b, err := redis.New(o)
		require.NoError(t, err)
		return b
	})
}
