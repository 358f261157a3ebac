package client_test

import (
	"encoding/json"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// keptAndNot runs a test in a lobby that keeps history and in one that does not, with a client
// of alice that reads nothing and a function that sends messages of bob.
func keptAndNot(
	t *testing.T, queue int,
	test func(t *testing.T, w *testEnv, alice *testClient, say func(to realtime.Target, words ...string)),
) {
	keep := realtime.Retention{Messages: 100}
	for name, history := range map[string]realtime.Retention{"kept": keep, "not kept": {}} {
		t.Run(name, func(t *testing.T) {
			o := realtime.Options{History: history, Inbox: realtime.InboxOptions{Keep: keep}}
			withManager(t, o, func(t *testing.T, w *testEnv) {
				alice := w.dialPaused("alice", client.DialOptions{QueueMessages: queue})
				require.NoError(t, alice.Join(t.Context(), "lobby"))
				test(t, w, alice, func(to realtime.Target, words ...string) {
					for _, word := range words {
						_, err := w.rt.Send(t.Context(), to, realtime.Message{
							Sender: "bob", Content: json.RawMessage(word),
						})
						require.NoError(t, err)
						synctest.Wait()
					}
				})
			})
		})
	}
}

var (
	toLobby = realtime.ToRoom("lobby")
	toAlice = realtime.ToUser("alice")
)

// TestUnionNotProcessed tests that a message to a room and a user stays in the inbox until the
// application has processed the copy from the room.
func TestUnionNotProcessed(t *testing.T) {
	keptAndNot(t, 0, func(t *testing.T, w *testEnv, alice *testClient, say func(realtime.Target, ...string)) {
		say(toLobby.Union(toAlice), "1")
		say(toAlice, "2")
		other := w.dialPaused("alice", client.DialOptions{})
		synctest.Wait() // it has received the inbox, from which alice's messages may be removed now
		alice.startReading()
		synctest.Wait()
		require.Equal(t, []string{"bob@lobby: 1", "bob: 2"}, alice.received())
		other.startReading()
		synctest.Wait()
		require.Equal(t, []string{"bob: 1", "bob: 2"}, other.received())
		third := w.dial("alice")
		synctest.Wait()
		require.Empty(t, third.received())
	})
}

// TestUnionNotQueued tests that a message that did not fit into the queue when it arrived through
// the room is received from the inbox.
func TestUnionNotQueued(t *testing.T) {
	keptAndNot(t, 4, func(t *testing.T, w *testEnv, alice *testClient, say func(realtime.Target, ...string)) {
		say(toLobby, "1", "2", "3", "4")
		say(toLobby.Union(toAlice), "5")
		say(toAlice, "6")
		alice.startReading()
		alice.awaitReconnect()
		said := alice.received()
		require.Subset(t, said, []string{"bob: 6"})
		require.Condition(t, func() bool {
			return slices.Contains(said, "bob: 5") || slices.Contains(said, "bob@lobby: 5")
		}, "%v", said)
		third := w.dial("alice")
		synctest.Wait()
		require.Empty(t, third.received())
	})
}
