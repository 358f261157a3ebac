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

func TestDeadPeerIsFoundOut(t *testing.T) {
	bubble(t, announced(), func(t *testing.T, b *bed) {
		bob := b.open("bob")
		start := time.Now()
		mute := b.stalled("mute") // neither reads nor answers
		bob.hush()
		<-mute.conn.Context().Done()
		require.InDelta(t, 35, time.Since(start).Seconds(), 1, "25 s until the ping, 10 s for the pong")
		require.Equal(t, []string{"mute left"}, bob.got())
		require.EqualValues(t, 1, b.Stats().Ended.Timeout)
		mute.unstall()
		mute.requireEnd(realtime.CloseTimeout)
	})
}

func TestQuietPeerLives(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice := b.open("alice")
		time.Sleep(24 * time.Hour)
		require.Nil(t, alice.ended(), "pongs are life")
		require.Equal(t, []string{"welcome"}, alice.got())
		require.Less(t, time.Since(alice.conn.Info().LastSeen), time.Minute)
	})
}

func TestTalkingPeerIsNotPinged(t *testing.T) {
	bubble(t, realtime.Options{PongTimeout: time.Second}, func(t *testing.T, b *bed) {
		mute := b.stalled("mute") // would not answer a ping
		for range 100 {
			time.Sleep(20 * time.Second)
			require.NoError(t, mute.Write([]byte("anything")))
		}
		require.NoError(t, mute.conn.Context().Err())
	})
}

func TestPingsCanBeOff(t *testing.T) {
	bubble(t, realtime.Options{PingInterval: -1, StaleAfter: -1}, func(t *testing.T, b *bed) {
		mute := b.stalled("mute")
		time.Sleep(24 * time.Hour)
		require.NoError(t, mute.conn.Context().Err())
	})
	bubble(t, realtime.Options{PongTimeout: -1, StaleAfter: -1}, func(t *testing.T, b *bed) {
		mute := b.stalled("mute")
		time.Sleep(time.Hour)
		require.NoError(t, mute.conn.Context().Err(), "pinged, but nobody waits for the pong")
	})
}

func TestStaleAfterBoundsThePingInterval(t *testing.T) {
	o := realtime.Options{StaleAfter: 6 * time.Second, SweepInterval: time.Second}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice, mute := b.open("alice"), b.stalled("mute")
		start := time.Now()
		<-mute.conn.Context().Done()
		require.InDelta(t, 6.5, time.Since(start).Seconds(), 1)
		time.Sleep(time.Minute)
		require.Nil(t, alice.ended(), "pinged every 2 s")
	})
}

// labelled marks the goroutine, and those that it will start, for goroutines.
func labelled(t *testing.T) {
	pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), pprof.Labels("test", t.Name())))
}

var labelledGroup = regexp.MustCompile(`(?m)^(\d+) @.*\n# labels: (.*)$`)

// goroutines counts those that the test has started, and no other test.
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
	labelled(t)
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
		// A reader of the test's for each, and nothing of ours.
		require.LessOrEqual(t, goroutines(t), one+105)
	})
}

// TestQuietConnectionsCostNoGoroutine: one that talks has a goroutine, and gives it up.
func TestQuietConnectionsCostNoGoroutine(t *testing.T) {
	labelled(t)
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		b.open("first")
		synctest.Wait()
		one := goroutines(t)
		clients := make([]*client, 100)
		for i := range clients {
			clients[i] = b.open("")
		}
		synctest.Wait()
		require.LessOrEqual(t, goroutines(t), one+105, "they have said nothing yet")
		for range 3 {
			for _, c := range clients {
				c.hush()
				require.NoError(t, c.Write([]byte("ping")))
			}
			synctest.Wait()
			require.GreaterOrEqual(t, goroutines(t), one+190, "they may go on")
			for _, c := range clients {
				require.Equal(t, []string{"pong"}, c.got())
			}
			time.Sleep(16 * time.Second)
			synctest.Wait()
			require.LessOrEqual(t, goroutines(t), one+105, "they are quiet")
		}
	})
}

// TestTalkingConnectionsKeepTheirGoroutine: giving it up and taking it back is for those
// who are quiet for long.
func TestTalkingConnectionsKeepTheirGoroutine(t *testing.T) {
	labelled(t)
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
