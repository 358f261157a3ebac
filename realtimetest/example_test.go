package realtimetest_test

import (
	"testing"
	"testing/synctest"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
	"github.com/realtime-go/realtime/realtimetest"
)

// In a synctest bubble a test takes no time, although the loss of the network is detected only
// after half a minute.
func Example() {
	_ = func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			srv := realtimetest.New(t, nil)
			alice, bob := srv.Connect("alice"), srv.Connect("bob")
			alice.Join("lobby")
			bob.Join("lobby")

			alice.Send(realtime.ToRoom("lobby"), "chat", "hi")
			bob.Expect("chat")

			bob.DropNetwork()
			alice.Send(realtime.ToRoom("lobby"), "chat", "are you there?")
			bob.Reconnect()
			bob.ExpectGap()
			bob.ExpectNone("chat")
		})
	}
}

// A test waits for what a client is shown of the others in a room: that bob is there and says
// something, and that bob has left.
func ExampleClient_ExpectPresence() {
	_ = func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			srv := realtimetest.New(t, &realtime.Options{
				Authorize: realtime.InsecureAllowAll, Show: realtime.ShowMembers,
			})
			alice, bob := srv.Connect("alice"), srv.Connect("bob")
			watch := client.JoinOptions{Presence: true}
			if err := alice.JoinWith(t.Context(), "lobby", watch); err != nil {
				t.Fatal(err)
			}
			bob.Join("lobby")
			_ = bob.SetState("lobby", map[string]bool{"typing": true})
			alice.ExpectPresence("lobby", func(now client.Presence) bool {
				return now.UserCount == 2 && now.Members[1].State != nil
			})
			_ = bob.Close()
			alice.ExpectPresence("lobby", func(now client.Presence) bool {
				return now.UserCount == 1
			})
		})
	}
}
