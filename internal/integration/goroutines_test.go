package integration_test

import (
	"context"
	"regexp"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// labelGoroutines labels the goroutine and those that it starts, for goroutines.
func labelGoroutines(t *testing.T) {
	pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), pprof.Labels("test", t.Name())))
}

var labelledGroup = regexp.MustCompile(`(?m)^(\d+) @.*\n# labels: (.*)$`)

// goroutines returns the number of goroutines that the test has started. Those of other tests do
// not count.
func goroutines(t *testing.T) int {
	t.Helper()
	var profile strings.Builder
	require.NoError(t, pprof.Lookup("goroutine").WriteTo(&profile, 1))
	n := 0
	for _, m := range labelledGroup.FindAllStringSubmatch(profile.String(), -1) {
		if strings.Contains(m[2], strconv.Quote(t.Name())) {
			group, err := strconv.Atoi(m[1])
			require.NoError(t, err)
			n += group
		}
	}
	require.Positive(t, n)
	return n
}

func TestHeartbeatCostsNoGoroutine(t *testing.T) {
	labelGoroutines(t)
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		b.open("first")
		time.Sleep(time.Minute)
		synctest.Wait()
		one := goroutines(t)
		for range 100 {
			b.open("")
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		// The test has one reader for each connection. The Manager has none.
		require.LessOrEqual(t, goroutines(t), one+105)
	})
}

// A connection has a goroutine while it is active, and releases it later.
func TestQuietConnectionsCostNoGoroutine(t *testing.T) {
	labelGoroutines(t)
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		b.open("first")
		synctest.Wait()
		one := goroutines(t)
		clients := make([]*client, 100)
		for i := range clients {
			clients[i] = b.open("")
		}
		synctest.Wait()
		require.LessOrEqual(t, goroutines(t), one+105, "no message was sent yet")
		for range 3 {
			for _, c := range clients {
				c.discard()
				require.NoError(t, c.Write([]byte("ping")))
			}
			synctest.Wait()
			require.GreaterOrEqual(t, goroutines(t), one+190, "the connections are active")
			for _, c := range clients {
				require.Equal(t, []string{"pong"}, c.got())
			}
			time.Sleep(16 * time.Second)
			synctest.Wait()
			require.LessOrEqual(t, goroutines(t), one+105, "the connections are quiet")
		}
	})
}

// Only a connection that is quiet for long releases its goroutine.
func TestActiveConnectionsKeepTheirGoroutine(t *testing.T) {
	labelGoroutines(t)
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice := b.open("alice")
		synctest.Wait()
		before := goroutines(t)
		for range 20 {
			require.NoError(t, alice.Write([]byte("ping")))
			time.Sleep(9 * time.Second)
			synctest.Wait()
			require.Greater(t, goroutines(t), before)
		}
	})
}
