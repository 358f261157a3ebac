// Command realtime-app serves the benchmark with this library as an application would: clients of
// realtime.v1, permissions in a map, and a Router with a handler that decodes each message.
package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/bench/serve"
)

// chat is the content of a message.
type chat struct {
	Text string `json:"text"`
}

var errEmpty = errors.New("empty message")

func main() {
	compressFrom := 0
	if serve.Deflate() {
		compressFrom = 512
	}
	var (
		rt     *realtime.Manager
		router realtime.Router
		may    permissions
	)
	realtime.On(&router, "chat",
		func(ctx context.Context, c *realtime.Conn, in realtime.Inbound, said chat) error {
			if said.Text == "" {
				return errEmpty
			}
			_, err := realtime.Relay(ctx, c, in)
			return err
		})
	rt = realtime.New(&realtime.Options{
		Authenticate: func(r *http.Request) (realtime.Identity, error) {
			c := serve.Identity(r)
			may.grant(c)
			return realtime.Identity{UserID: c.User, Data: c.Room}, nil
		},
		Authorize: may.authorize,
		OnConnect: func(ctx context.Context, c *realtime.Conn) error {
			room, _ := c.Identity().Data.(string)
			_, err := rt.Join(ctx, c.ID(), room)
			return err
		},
		OnMessage:    router.OnMessage,
		CompressFrom: compressFrom,
		Limits:       realtime.Limits{InboundRate: -1, InboundBytes: -1, HandshakeRate: -1},
		Logger:       slog.New(slog.DiscardHandler),
	})
	serve.Run("realtime.v1", rt,
		"github.com/realtime-go/realtime", "github.com/coder/websocket")
}
