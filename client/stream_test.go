package client_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// TestSlowConsumer tests that the newest messages are dropped if the consumer is too slow, and that
// this is reported.
func TestSlowConsumer(t *testing.T) {
	withManager(t, realtime.Options{Show: realtime.ShowCount}, func(t *testing.T, w *testEnv) {
		alice := w.dialPaused("alice", client.DialOptions{QueueMessages: 3})
		alice.join("lobby")
		for i := range 8 {
			require.NoError(t, alice.sendChat("lobby", fmt.Sprint(i)))
		}
		_, err := alice.FetchPresence(t.Context(), "lobby")
		require.NoError(t, err)
		alice.startReading()
		want := []string{`alice@lobby: "0"`, `alice@lobby: "1"`, `alice@lobby: "2"`, `gap dropped 5`}
		require.Equal(t, want, alice.received())
		require.NoError(t, alice.sendChat("lobby", "8"))
		require.Equal(t, []string{`alice@lobby: "8"`}, alice.received())
	})
}

// TestDroppedMessageIsNotDuplicate tests that a dropped message is delivered if it arrives again.
func TestDroppedMessageIsNotDuplicate(t *testing.T) {
	withHandler(t, scripted(t, func(s *script, _ int) {
		s.sendChat("1", "one")
		s.sendChat("2", "two")
		s.receive()
		s.sendChat("1", "one")
		s.sendChat("2", "two")
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dialPaused("alice", client.DialOptions{QueueMessages: 1})
		synctest.Wait()
		alice.startReading()
		require.Equal(t, []string{`bob@lobby: "one"`, `gap dropped 1`}, alice.received())
		go func() { _ = alice.Join(t.Context(), "lobby") }()
		require.Equal(t, []string{`bob@lobby: "two"`}, alice.received())
	})
}

// TestGapsAreMerged tests that the queue stays bounded however often the connection is lost.
func TestGapsAreMerged(t *testing.T) {
	withHandler(t, scripted(t, func(s *script, n int) {
		if n < 5 {
			s.sendChat(fmt.Sprint(n), fmt.Sprint(n))
			return
		}
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dialPaused("alice", client.DialOptions{QueueMessages: 2})
		for range 4 {
			alice.awaitReconnect()
		}
		alice.startReading()
		require.Equal(t, []string{`bob@lobby: "1"`, `gap 1006 dropped 3`}, alice.received())
	})
}

// TestLoopContinues tests that another loop continues after one that was left, and that each later
// loop yields the final error.
func TestLoopContinues(t *testing.T) {
	withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
		alice := w.dialPaused("alice", client.DialOptions{})
		alice.join("lobby")
		for i := range 3 {
			require.NoError(t, alice.sendChat("lobby", fmt.Sprint(i)))
		}
		for i := range 3 {
			for m, err := range alice.Messages() {
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf(`"%d"`, i), string(m.Content))
				break
			}
		}
		require.NoError(t, alice.sendChat("lobby", "last"))
		require.NoError(t, alice.Close())
		for _, want := range [][]string{{`alice@lobby: "last"`, "end"}, {"end"}, {"end"}} {
			var got []string
			for m, err := range alice.Messages() {
				got = append(got, describe(m, err))
			}
			require.Equal(t, want, got)
		}
	})
}

// TestTwoLoops tests that two loops share the messages, and that both yield the final error.
func TestTwoLoops(t *testing.T) {
	withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		alice.startReading()
		alice.join("lobby")
		var want []string
		for i := range 100 {
			require.NoError(t, alice.sendChat("lobby", fmt.Sprint(i)))
			want = append(want, fmt.Sprintf(`alice@lobby: "%d"`, i))
		}
		require.NoError(t, alice.Close())
		require.ElementsMatch(t, append(want, "end", "end"), alice.received())
	})
}

// TestCallsInTheLoop tests that the loop may call any method, because the client does not wait for
// the loop.
func TestCallsInTheLoop(t *testing.T) {
	withManager(t, realtime.Options{Show: realtime.ShowCount}, func(t *testing.T, w *testEnv) {
		alice := w.dialPaused("alice", client.DialOptions{})
		alice.join("lobby")
		require.NoError(t, alice.sendChat("lobby", "0"))
		n := 0
		for m, err := range alice.Messages() {
			if err != nil {
				require.Equal(t, realtime.ErrClosed, err)
				break
			}
			if n++; n == 10 {
				require.NoError(t, alice.Close())
				continue
			}
			require.Equal(t, fmt.Sprintf(`"%d"`, n-1), string(m.Content))
			_, err := alice.FetchPresence(t.Context(), "lobby")
			require.NoError(t, err)
			require.NoError(t, alice.sendChat("lobby", fmt.Sprint(n)))
		}
		require.Equal(t, 10, n)
	})
}
