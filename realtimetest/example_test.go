package realtimetest_test

import (
	"testing"
	"testing/synctest"

	"github.com/realtime-go/realtime"
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
