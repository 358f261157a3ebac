package migrate

import (
	"context"
	"net/http"

	"github.com/realtime-go/realtime"
)

func fromMelody() (*realtime.Manager, http.Handler) {
	var rt *realtime.Manager
	rt = realtime.New(&realtime.Options{
		Authorize: func(context.Context, *realtime.Conn, realtime.Action) error { return nil },
		OnMessage: func(ctx context.Context, c *realtime.Conn, in realtime.Inbound) (any, error) {
			_, err := rt.Send(ctx, realtime.ToAll().Except(c.ID()), in.Message) // BroadcastOthers
			return nil, err
		},
	})
	mux := http.NewServeMux()
	mux.Handle("/ws", rt)
	return rt, mux
}
