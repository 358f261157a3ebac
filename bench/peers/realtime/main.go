// Command realtime serves the benchmark with this library.
package main

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/bench/serve"
)

func main() {
	compressFrom := 0
	if serve.Deflate() {
		compressFrom = 512
	}
	var rt *realtime.Manager
	rt = realtime.New(&realtime.Options{
		Authenticate: func(r *http.Request) (realtime.Identity, error) {
			c := serve.Identity(r)
			return realtime.Identity{UserID: c.User, Data: c.Room}, nil
		},
		Authorize: realtime.InsecureAllowAll,
		OnConnect: func(ctx context.Context, c *realtime.Conn) error {
			room, _ := c.Identity().Data.(string)
			_, err := rt.Join(ctx, c.ID(), room)
			return err
		},
		CompressFrom: compressFrom,
		// No other peer limits what clients may send, or how often they connect. Logging 10,000 ends
		// would cost time.
		Limits: realtime.Limits{InboundRate: -1, InboundBytes: -1, HandshakeRate: -1},
		Logger: slog.New(slog.DiscardHandler),
	})
	serve.Run("realtime", rt,
		"github.com/realtime-go/realtime", "github.com/coder/websocket")
}
