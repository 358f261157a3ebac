// Package client connects a Go program to a server that is built with package realtime. A
// [Client] joins rooms, sends and receives messages, calls the server and answers its calls:
//
//	c, err := client.Dial(ctx, "wss://example.com/ws", &client.DialOptions{Token: newToken})
//	if err != nil {
//		return err
//	}
//	defer c.Close()
//	if err := c.Join(ctx, "lobby"); err != nil {
//		return err
//	}
//	err = c.Send(ctx, realtime.ToRoom("lobby"), realtime.Message{Content: json.RawMessage(`"hi"`)})
//	for msg, err := range c.Messages() {
//		…
//	}
//
// # Guarantees
//
// A [Client] reconnects by itself when its connection is lost. It then joins its rooms again and
// repeats the requests that the server has not answered, except calls. It does so until Close is
// called or the server tells it not to reconnect. Messages sent by one goroutine arrive in order.
// If a server cannot reach the other servers, it answers some requests with the code "unavailable":
// the client repeats these too, except calls, until it succeeds or the context of the method ends.
// A message that is sent again keeps its ID, and every client drops a message whose ID it has
// already received, so no application sees it twice. A message to several rooms is received once,
// with the room through which it arrived first.
//
// Before the first connection, a refusal ends the client if [DialError.ComeBack] reports false.
// After that, such a refusal ends the client only if the server itself sent it, because a proxy
// may answer for a server that is being replaced. A server can make the client wait for an hour at
// most, and [Client.Reconnect] ends every wait. An attempt to connect takes 30 s at most. If the
// server does not answer or DialOptions.Token does not return within that time, the client tries
// again.
//
// If a room keeps history, messages that were sent to it during an interruption arrive after the
// reconnect, once and in order, and DialOptions.OnRecover reports how many there were. If some of
// them are no longer kept, the stream has a [*GapError] with the reason in their place. Messages
// that are kept nowhere are lost to this client; a GapError reports that too, once for each
// reconnect. [Client.JoinWith] can begin with messages from before the join, and [Client.History]
// reads history page by page.
//
// All this also holds for rooms to which the server's application has added the client. The client
// does not join these by itself: when the application adds it again, it continues where it was.
//
// A client that joins a room with JoinOptions.Presence knows who else is there: [Client.Presence]
// and DialOptions.OnPresence follow what the room shows of its members. [Client.SetState] says
// something about this client to them. While the client reconnects, presence stays as it was, and
// the client says its state again when it joins the room again.
//
// A message with Latest is the current value of a key. The loop gets the newest value of each key
// when it is ready, and never the ones in between. A client that has just joined, or that has
// reconnected, gets the newest values, and a null for those that do not exist any more.
//
// If the application keeps an inbox for each user, messages to the user are delivered at least
// once: a message is delivered again unless the program has asked for the next one, see
// [Client.Messages].
//
// docs/PROTOCOL.md specifies the wire protocol.
package client
