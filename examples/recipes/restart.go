package recipes

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/realtime-go/realtime"
)

// serveUntil serves until ctx ends, for example a context of signal.NotifyContext.
func serveUntil(ctx context.Context, rt *realtime.Manager, srv *http.Server) error {
	failed := make(chan error, 1)
	go func() { failed <- srv.ListenAndServe() }()
	select {
	case err := <-failed:
		return errors.Join(err, rt.Close())
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(rt.Shutdown(ctx), srv.Shutdown(ctx)) // in this order
}
