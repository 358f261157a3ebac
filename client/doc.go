// Package client connects a Go program to a server that is built with package realtime. It
// joins rooms, sends and receives messages, calls the server and is called by it:
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
// # What is promised
//
// A [Client] comes back by itself when its connection is lost, joins its rooms again, and sends
// again what the server has not answered, until Close or until the server says that it should
// stay away. What one goroutine sends arrives in order. A message that is sent again has the
// same id, by which every client drops the second one, so nobody sees it twice. A message to
// several rooms is received once, with the room that it comes from first.
//
// A client that is refused before it has had a connection stays away. After that it does so only if
// the server itself refuses it: while a server is replaced, a proxy answers in its place, see
// [DialError.ComeBack]. A server can make it wait for an hour at most, and [Client.Reconnect] ends
// each wait. An attempt has 30 s: then a server that does not answer is asked again, and so is a
// DialOptions.Token that does not return.
//
// What others sent meanwhile to a room that keeps history comes behind a reconnect, in its order
// and once, and DialOptions.OnRecover is told how much it was. If something of it is kept no
// longer, the stream has a [*GapError] there that says why. What nobody keeps is lost to this
// client, and a GapError says so too, once for each reconnect. [Client.JoinFrom] begins with what
// was sent before, [Client.History] turns the pages.
//
// All this holds too for rooms that the server's application has put the client into. It does not
// join these by itself: when the application puts it in again, it goes on where it was.
//
// Where the application has an inbox for each user, messages to the user come at least once: until
// the program has asked for the next one, see [Client.Messages].
//
// docs/PROTOCOL.md says what goes over the wire.
package client
