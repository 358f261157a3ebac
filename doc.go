// Package realtime adds real-time messaging to a Go web application: connections,
// users with several devices, rooms, and messages to any of them.
//
// A [Manager] is the hub. It is an http.Handler, to be mounted where browsers open
// their WebSockets:
//
//	rt := realtime.New(&realtime.Options{
//		Authenticate: whoIs,
//		Authorize:    mayThey,
//	})
//	defer rt.Close()
//	http.Handle("/ws", rt)
//
// Any code of the application sends, from a handler, a job or another connection:
//
//	rt.Send(ctx, realtime.ToRoom("lobby"), realtime.Message{Type: "news", Content: json})
//
// # What is promised
//
// Send never waits for a peer: it appends to queues that are bounded in messages and
// bytes, and a connection that does not keep up is ended or loses messages, as
// [SlowPolicy] says, without the others noticing. Messages of one sender keep their
// order, all members of a room see its messages in one order, and nobody gets a
// message twice. Joins and leaves hold for everything that is sent after they
// returned. Every end of a connection has one cause, one close code and one call of
// OnDisconnect.
//
// What is queued when a connection ends is lost to it: delivery is at most once. Rooms that keep
// history and inboxes of users, see Options.History and [InboxOptions], do better: a client that
// comes back gets what it has missed, in order, or is told of the gap. From an inbox a client of
// realtime.v1 gets a message until it has acknowledged it, and a plain one until it was written. A
// [Broker] decides what outlives the process.
//
// # What is refused
//
// The zero [Options] let pages of the same origin connect anonymously, and refuse
// everything that a client asks for until Options.Authorize allows it. Functions that
// open that up for a demonstration have names that begin with Insecure.
//
// docs/PROTOCOL.md says what goes over the wire and docs/ARCHITECTURE.md how it is
// built.
package realtime
