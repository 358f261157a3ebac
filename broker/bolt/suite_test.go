package bolt_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/bolt"
	"github.com/realtime-go/realtime/broker/brokertest"
)

// open opens the store in a directory.
func open(t *testing.T, dir string, o *bolt.Options) *bolt.Broker {
	t.Helper()
	b, err := bolt.Open(filepath.Join(dir, "streams.db"), o)
	require.NoError(t, err)
	return b
}

func TestConformance(t *testing.T) {
	for name, o := range map[string]*bolt.Options{
		"synced": nil, "window": {LossWindow: 20 * time.Millisecond}, "late": {LossWindow: -1},
	} {
		t.Run(name, func(t *testing.T) {
			brokertest.Run(t, func(t *testing.T) broker.Broker { return open(t, t.TempDir(), o) })
			t.Run("durable", func(t *testing.T) {
				brokertest.RunDurable(t, func(t *testing.T, dir string) broker.Broker { return open(t, dir, o) })
			})
		})
	}
}
