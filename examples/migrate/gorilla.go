package migrate

import (
	"context"
	"net/http"

	"github.com/realtime-go/realtime"
)

func fromGorilla() (*realtime.Manager, http.Handler) {
	rt := realtime.New(&realtime.Options{
		Limits: realtime.Limits{MessageBytes: 512},
		Authorize: func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
			if a.Kind == realtime.ActionSend && a.Target.All {
				return nil // like the hub: each message goes to all
			}
			return realtime.ErrForbidden
		},
	})
	mux := http.NewServeMux()
	mux.Handle("/ws", rt)
	return rt, mux
}
