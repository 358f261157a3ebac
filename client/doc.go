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
// same id, by which every client drops the second one, so nobody sees it twice.
//
// What others sent while there was no connection is lost to this client: the stream has a
// [*GapError] there.
//
// docs/PROTOCOL.md says what goes over the wire.
package client
