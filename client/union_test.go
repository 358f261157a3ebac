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

// twofold runs a test with alice, who reads nothing, in a lobby that keeps history or does not, and
// with what sends to it and to her.
func twofold(t *testing.T, queue int, test func(t *testing.T, w *world, alice *rig, say func(to realtime.Target, words ...string))) {
	keep := realtime.Retention{Messages: 100}
	for name, history := range map[string]realtime.Retention{"kept": keep, "not kept": {}} {
		t.Run(name, func(t *testing.T) {
			o := realtime.Options{History: history, Inbox: realtime.InboxOptions{Keep: keep}}
			bubble(t, o, func(t *testing.T, w *world) {
				alice := w.deaf("alice", client.DialOptions{QueueMessages: queue})
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
	place = realtime.ToRoom("lobby")
	mail  = realtime.ToUser("alice")
)

// A message to a room and to the user that came from the room is acknowledged when the application
// is done with it: until then it is in the inbox.
func TestUnionThatNobodyHasTaken(t *testing.T) {
	twofold(t, 0, func(t *testing.T, w *world, alice *rig, say func(realtime.Target, ...string)) {
		say(place.Union(mail), "1")
		say(mail, "2")
		other := w.deaf("alice", client.DialOptions{})
		synctest.Wait() // it has what is in the inbox, which may go when alice has taken it
		alice.listen()
		synctest.Wait()
		require.Equal(t, []string{"bob@lobby: 1", "bob: 2"}, alice.got())
		other.listen()
		synctest.Wait()
		require.Equal(t, []string{"bob: 1", "bob: 2"}, other.got())
		third := w.dial("alice")
		synctest.Wait()
		require.Empty(t, third.got())
	})
}

// One that could not be taken from the room comes from the inbox.
func TestUnionThatWasNotTaken(t *testing.T) {
	twofold(t, 4, func(t *testing.T, w *world, alice *rig, say func(realtime.Target, ...string)) {
		say(place, "1", "2", "3", "4")
		say(place.Union(mail), "5")
		say(mail, "6")
		alice.listen()
		alice.back()
		said := alice.got()
		require.Subset(t, said, []string{"bob: 6"})
		require.Condition(t, func() bool {
			return slices.Contains(said, "bob: 5") || slices.Contains(said, "bob@lobby: 5")
		}, "%v", said)
		third := w.dial("alice")
		synctest.Wait()
		require.Empty(t, third.got())
	})
}
