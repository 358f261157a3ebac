// Package realtimetest tests applications of package realtime. It connects their real handlers with
// clients under the control of the test, over a network in memory. There are no ports and no
// sleeps, and in a testing/synctest bubble waiting takes no time.
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
// Of latest values, Expect returns the newest of each key that has arrived. Who is in a room is
// known to a client that has joined it with presence, see [Client.ExpectPresence].
//
// An expected event must happen within ten seconds. A message of an inbox is acknowledged by the
// rules of client.Client: when the next message is received, also if Expect has skipped it.
package realtimetest
