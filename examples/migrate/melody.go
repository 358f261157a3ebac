package migrate

import (
	"context"
	"net/http"

	"github.com/realtime-go/realtime"
)

func fromMelody() (*realtime.Manager, http.Handler) {
	rt := realtime.New(&realtime.Options{
		Authorize: func(context.Context, *realtime.Conn, realtime.Action) error { return nil },
		OnMessage: func(ctx context.Context, c *realtime.Conn, in realtime.Inbound) (any, error) {
			if !in.Target.IsZero() { // not to the server, and no call
				in.Target = realtime.ToAll().Except(c.ID()) // BroadcastOthers
			}
			return realtime.Relay(ctx, c, in)
		},
	})
	mux := http.NewServeMux()
	mux.Handle("/ws", rt)
	return rt, mux
}
