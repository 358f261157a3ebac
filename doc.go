// Package realtime adds real-time messaging to a Go web application: connections,
// users with several devices, rooms, and messages to any of them.
//
// A [Manager] is the hub. It is an http.Handler for the path at which clients open their
// WebSockets. Browsers use the client that [Manager.ClientJS] serves, Go programs use package
// client, and a plain WebSocket with JSON works too. This is a complete server:
//
//	func main() {
//		rt := realtime.New(&realtime.Options{
//			Authenticate: realtime.InsecureQueryUser, // replace: who opens this request?
//			Authorize:    realtime.InsecureAllowAll,  // replace: may this client do that?
//		})
//		http.Handle("/ws", rt)
//		http.Handle("/realtime.js", rt.ClientJS())
//		log.Fatal(realtime.NewServer("localhost:8080", nil).ListenAndServe())
//	}
//
// Clients send to each other, as far as Options.Authorize allows it. The application sends from
// anywhere: a handler, a job, another connection:
//
//	res, err := rt.Room("lobby").Send(ctx, "news", News{Headline: "hi"})
//
// [Manager.Send] sends a [Message] to any [Target].
//
// # Connections, users and rooms
//
// A [Conn] is one connection of one device or browser tab. A [User] has all connections with the
// same user id in their [Identity]. A [Room] is a set of connections, and exists as long as it has
// members: clients ask to join, or the application calls [Conn.Join] or [User.Join].
// Options.Show says what a room shows of its members, and Options.AnnounceUsers tells clients when
// users connect and disconnect.
//
// [Options] has functions for the events of a connection: OnConnect, OnMessage and
// OnDisconnect. Those of one connection run one at a time and may block. A [Router] calls typed
// handlers by the name of the message or call. [Call] calls a method of a client. OnRoom receives
// each [RoomEvent]: who joins a room, is lost, comes back and leaves, in order.
//
// # Targets
//
// A [Target] says which connections receive a message: [ToAll], [ToRoom], [ToUser] or [ToConn],
// combined by [Target.Union] and reduced by [Target.Except] and [Target.ExceptUser]. Each
// connection receives the message once. Messages of one sender keep their order, and all members of
// a room see its messages in one order, see [Manager.Send]. A join or leave applies to every
// message that is sent after it has returned. [Result] says how many send queues took the message.
//
// # History and inboxes
//
// Without further options a message is delivered at most once: it is lost for a client that is not
// connected, or whose connection ends before its queue is written. With Options.History rooms keep
// their newest messages, and with Options.Inbox ([InboxOptions]) users have inboxes. Then a client
// of realtime.v1 that reconnects receives the messages that it missed, in order, or a report of the
// gap with a [Reason]. An inbox keeps a message until a client of realtime.v1 has acknowledged it,
// or until it was written to a plain client. [Retention] bounds both. Messages are kept in memory,
// unless Options.Broker stores them elsewhere.
//
// # Slow consumers
//
// [Manager.Send] never waits for a peer. It appends to send queues, which are bounded in messages
// and bytes. If the queue of a connection is full, the connection is closed, drops messages or
// catches up from history, see [SlowPolicy]. Other connections are not affected. Limits.MemoryBytes
// bounds the memory of all connections together.
//
// # Security
//
// The zero [Options] are secure: only pages of the same origin may connect, all connections are
// anonymous, and every request of a client is refused until Options.Authorize allows it. [Limits]
// and [Timeouts] have defaults. Functions and options that open a server to everybody, for
// demonstrations, have names that begin with Insecure. [User.Disconnect], [User.Deny],
// [Room.Remove] and [Room.Deny] take effect before they return, also for connections that are being
// admitted.
//
// # Shutdown
//
// [Manager.Shutdown] writes the send queues, tells clients to reconnect and waits for handlers.
// [Manager.Close] gives connections one second and does not wait for handlers. Call one of them
// before Shutdown of the http.Server, which does not know about open WebSockets:
//
//	err := errors.Join(rt.Shutdown(ctx), srv.Shutdown(ctx))
//
// Each connection ends with exactly one [Cause] and one [CloseCode]. OnDisconnect is called once
// for each connection that OnConnect has accepted.
//
// docs/PROTOCOL.md describes what is sent over the wire, and docs/ARCHITECTURE.md how the package
// is built.
package realtime
