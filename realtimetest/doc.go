// Package realtimetest tests applications of package realtime: their real handlers, and
// clients that are under the control of the test, on a network in memory. There are no ports
// and no sleeps, and in a testing/synctest bubble time takes no time.
//
//	func TestChat(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			srv := realtimetest.New(t, &options)
//			alice, bob := srv.Connect("alice"), srv.Connect("bob")
//			alice.Join("lobby")
//			bob.Join("lobby")
//			alice.Send(realtime.ToRoom("lobby"), "chat", "hi")
//			bob.Expect("chat")
//		})
//	}
//
// What is waited for has ten seconds to come. A message of an inbox is acknowledged as client.Client
// does it: when the one behind it is read, also if Expect has passed over it.
package realtimetest
