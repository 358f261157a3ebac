package client_test

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// A consumer that is too slow loses the newest, and is told. Nobody waits for it.
func TestSlowConsumer(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, w *world) {
		alice := w.deaf("alice", client.DialOptions{QueueMessages: 3})
		alice.join("lobby")
		for i := range 8 {
			require.NoError(t, alice.say("lobby", fmt.Sprint(i)))
		}
		_, err := alice.Presence(t.Context(), "lobby")
		require.NoError(t, err)
		alice.listen()
		want := []string{`alice@lobby: "0"`, `alice@lobby: "1"`, `alice@lobby: "2"`, `gap dropped 5`}
		require.Equal(t, want, alice.got())
		require.NoError(t, alice.say("lobby", "8"))
		require.Equal(t, []string{`alice@lobby: "8"`}, alice.got())
	})
}

// What was dropped has not been shown.
func TestDroppedMessageMayComeAgain(t *testing.T) {
	served(t, play(t, func(s *stage, _ int) {
		s.chats("1", "one")
		s.chats("2", "two")
		s.hears()
		s.chats("1", "one")
		s.chats("2", "two")
		s.lasts()
	}), func(t *testing.T, w *world) {
		alice := w.deaf("alice", client.DialOptions{QueueMessages: 1})
		synctest.Wait()
		alice.listen()
		require.Equal(t, []string{`bob@lobby: "one"`, `gap dropped 1`}, alice.got())
		go func() { _ = alice.Join(t.Context(), "lobby") }()
		require.Equal(t, []string{`bob@lobby: "two"`}, alice.got())
	})
}

// What nobody takes is bounded, however often the connection is lost.
func TestGapsAreOne(t *testing.T) {
	served(t, play(t, func(s *stage, n int) {
		if n < 5 {
			s.chats(fmt.Sprint(n), fmt.Sprint(n))
			return
		}
		s.lasts()
	}), func(t *testing.T, w *world) {
		alice := w.deaf("alice", client.DialOptions{QueueMessages: 2})
		for range 4 {
			alice.back()
		}
		alice.listen()
		require.Equal(t, []string{`bob@lobby: "1"`, `gap 1006 dropped 3`}, alice.got())
	})
}

// A loop that is left can be gone on with, and the end is told to each.
func TestLoopsGoOn(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, w *world) {
		alice := w.deaf("alice", client.DialOptions{})
		alice.join("lobby")
		for i := range 3 {
			require.NoError(t, alice.say("lobby", fmt.Sprint(i)))
		}
		for i := range 3 {
			for m, err := range alice.Messages() {
				require.NoError(t, err)
				require.Equal(t, fmt.Sprintf(`"%d"`, i), string(m.Content))
				break
			}
		}
		require.NoError(t, alice.say("lobby", "last"))
		require.NoError(t, alice.Close())
		for _, want := range [][]string{{`alice@lobby: "last"`, "end"}, {"end"}, {"end"}} {
			var got []string
			for m, err := range alice.Messages() {
				got = append(got, shorthand(m, err))
			}
			require.Equal(t, want, got)
		}
	})
}

// Two loops share the messages, and both are told the end.
func TestTwoLoops(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, w *world) {
		alice := w.dial("alice")
		alice.listen()
		alice.join("lobby")
		var want []string
		for i := range 100 {
			require.NoError(t, alice.say("lobby", fmt.Sprint(i)))
			want = append(want, fmt.Sprintf(`alice@lobby: "%d"`, i))
		}
		require.NoError(t, alice.Close())
		require.ElementsMatch(t, append(want, "end", "end"), alice.got())
	})
}

// The loop may call whatever it likes: nothing waits for it.
func TestCallsInTheLoop(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, w *world) {
		alice := w.deaf("alice", client.DialOptions{})
		alice.join("lobby")
		require.NoError(t, alice.say("lobby", "0"))
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
			_, err := alice.Presence(t.Context(), "lobby")
			require.NoError(t, err)
			require.NoError(t, alice.say("lobby", fmt.Sprint(n)))
		}
		require.Equal(t, 10, n)
	})
}
