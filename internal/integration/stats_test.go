package integration_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

func TestStatsSub(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		b.open("alice").say("1", "all")
		synctest.Wait()
		old := b.Stats()
		require.EqualValues(t, 2, old.Written, "welcome and chat")
		bob := b.open("bob")
		bob.say("2", "all")
		bob.discard()
		delta := b.Stats().Sub(old)
		require.Equal(t, 2, delta.Conns, "gauges are not subtracted")
		require.EqualValues(t, 1, delta.Accepted)
		require.EqualValues(t, 1, delta.Messages)
		require.EqualValues(t, 1, delta.Received)
		require.EqualValues(t, 3, delta.Written)
		require.Zero(t, b.Stats().Sub(b.Stats()).Accepted)
	})
}

func TestStatsRate(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		require.Zero(t, b.Stats().Rate)
		for range 100 {
			b.news(realtime.ToAll(), "x")
			time.Sleep(100 * time.Millisecond)
		}
		require.InDelta(t, 10, b.Stats().Rate, 0.2)
		time.Sleep(5 * time.Second)
		require.InDelta(t, 5, b.Stats().Rate, 0.2)
		time.Sleep(5 * time.Second)
		require.Zero(t, b.Stats().Rate)
	})
}

// The difference of two snapshots has the counts between them, and the gauges of the second.
func TestStatsBetween(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice := b.open("alice")
		before := b.Stats()
		for range 5 {
			alice.say("x", "all")
		}
		synctest.Wait()
		bob := b.open("bob")
		alice.Drop()
		synctest.Wait()
		since := b.Stats().Sub(before)
		require.EqualValues(t, 5, since.Messages)
		require.EqualValues(t, 5, since.Received)
		require.EqualValues(t, 1, since.Accepted)
		require.EqualValues(t, 1, since.Ended.Lost)
		require.Equal(t, 1, since.Conns, "bob")
		bob.discard()
	})
}
