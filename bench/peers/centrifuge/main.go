// Command centrifuge serves the benchmark with centrifuge: with the JSON protocol, server-side
// subscriptions, the memory broker, and default options, except for the pool of write buffers,
// which saves memory. Clients publish with asynchronous messages, because no other peer sends
// replies.
package main

import (
	"context"
	"encoding/json"
	"log"
	"net/http"

	"github.com/centrifugal/centrifuge"

	"github.com/realtime-go/realtime/bench/serve"
)

type clientKey struct{}

// letter is a message to one user. A message to the room is a JSON string.
type letter struct {
	To   string          `json:"to"`
	Body json.RawMessage `json:"body"`
}

// personal returns the channel of a user.
func personal(user string) string { return "user:" + user }

func main() {
	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		log.Fatal(err)
	}
	node.OnConnecting(subscribe)
	node.OnConnect(func(c *centrifuge.Client) {
		who, _ := c.Context().Value(clientKey{}).(serve.Client)
		c.OnMessage(func(e centrifuge.MessageEvent) { publish(node, who.Room, e.Data) })
	})
	if err := node.Run(); err != nil {
		log.Fatal(err)
	}
	config := centrifuge.WebsocketConfig{UseWriteBufferPool: true}
	if serve.Deflate() { // like BenchmarkWsBroadcastCompressionCache of centrifuge
		config.Compression = true
		config.CompressionLevel = 1 // the default, 0, does not compress
		config.CompressionMinSize = 512
		config.CompressionPreparedMessageCacheSize = 8 << 20
	}
	h := centrifuge.NewWebsocketHandler(node, config)
	serve.Run("centrifuge", identify(h), "github.com/centrifugal/centrifuge")
}

// identify is the authentication middleware that centrifuge requires.
func identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := serve.Identity(r)
		ctx := context.WithValue(r.Context(), clientKey{}, who)
		ctx = centrifuge.SetCredentials(ctx, &centrifuge.Credentials{UserID: who.User})
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

func subscribe(ctx context.Context, _ centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
	who, _ := ctx.Value(clientKey{}).(serve.Client)
	subs := map[string]centrifuge.SubscribeOptions{who.Room: {}}
	if who.Direct {
		subs[personal(who.User)] = centrifuge.SubscribeOptions{}
	}
	return centrifuge.ConnectReply{Subscriptions: subs}, nil
}

func publish(node *centrifuge.Node, room string, data []byte) {
	if len(data) == 0 || data[0] != '{' {
		_, _ = node.Publish(room, data)
		return
	}
	var l letter
	if json.Unmarshal(data, &l) == nil {
		_, _ = node.Publish(personal(l.To), l.Body)
	}
}
