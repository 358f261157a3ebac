package integration_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

func TestDeadPeerIsDetected(t *testing.T) {
	bubble(t, announced(), func(t *testing.T, b *bed) {
		bob := b.open("bob")
		start := time.Now()
		mute := b.stalled("mute") // neither reads nor answers
		bob.discard()
		<-mute.conn.Context().Done()
		require.InDelta(t, 35, time.Since(start).Seconds(), 1, "25 s until the ping, 10 s for the pong")
		require.Equal(t, []string{"mute left"}, bob.got())
		require.EqualValues(t, 1, b.Stats().Ended.Timeout)
		mute.unstall()
		mute.requireEnd(realtime.CloseTimeout)
	})
}

func TestQuietPeerIsKept(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice := b.open("alice")
		time.Sleep(24 * time.Hour)
		require.Nil(t, alice.ended(), "a pong is a sign of life")
		require.Equal(t, []string{"welcome"}, alice.got())
		require.Less(t, time.Since(alice.conn.Info().LastSeen), time.Minute)
	})
}

func TestActivePeerIsNotPinged(t *testing.T) {
	bubble(t, realtime.Options{Timeouts: realtime.Timeouts{Pong: time.Second}}, func(t *testing.T, b *bed) {
		mute := b.stalled("mute") // would not answer a ping
		for range 100 {
			time.Sleep(20 * time.Second)
			require.NoError(t, mute.Write([]byte("anything")))
		}
		require.NoError(t, mute.conn.Context().Err())
	})
}

func TestPingsCanBeOff(t *testing.T) {
	bubble(t, realtime.Options{Timeouts: realtime.Timeouts{Ping: -1, Stale: -1}}, func(t *testing.T, b *bed) {
		mute := b.stalled("mute")
		time.Sleep(24 * time.Hour)
		require.NoError(t, mute.conn.Context().Err())
	})
	bubble(t, realtime.Options{Timeouts: realtime.Timeouts{Pong: -1, Stale: -1}}, func(t *testing.T, b *bed) {
		mute := b.stalled("mute")
		time.Sleep(time.Hour)
		require.NoError(t, mute.conn.Context().Err(), "pinged, but no pong is required")
	})
}

func TestStaleAfterBoundsThePingInterval(t *testing.T) {
	o := realtime.Options{Timeouts: realtime.Timeouts{Stale: 6 * time.Second, Sweep: time.Second}}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice, mute := b.open("alice"), b.stalled("mute")
		start := time.Now()
		<-mute.conn.Context().Done()
		require.InDelta(t, 6.5, time.Since(start).Seconds(), 1)
		time.Sleep(time.Minute)
		require.Nil(t, alice.ended(), "pinged every 2 s")
	})
}
