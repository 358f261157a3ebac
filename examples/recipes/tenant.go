package recipes

import (
	"context"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/realtime-go/realtime"
)

// tenantKey is the key of the tenant in the context of a connection.
type tenantKey struct{}

func tenant(ctx context.Context) string {
	name, _ := ctx.Value(tenantKey{}).(string)
	return name
}

// withTenants separates tenants: the name of a room begins with the name of its tenant and a slash.
// member reports whether a user belongs to a tenant. No tenant has a slash in its name.
func withTenants(s sessions, member func(tenant, user string) bool, r chi.Router) *realtime.Manager {
	rt := realtime.New(&realtime.Options{
		Authenticate: func(r *http.Request) (realtime.Identity, error) {
			id, err := s.authenticate(r)
			if err == nil && !member(chi.URLParam(r, "tenant"), id.UserID) {
				err = realtime.ErrForbidden
			}
			return id, err
		},
		ConnContext: func(ctx context.Context, r *http.Request) context.Context {
			return context.WithValue(ctx, tenantKey{}, chi.URLParam(r, "tenant"))
		},
		OnConnect: func(ctx context.Context, c *realtime.Conn) error {
			_, err := c.Join(ctx, tenant(ctx)+"/news")
			return err
		},
		Authorize: func(ctx context.Context, _ *realtime.Conn, a realtime.Action) error {
			room := a.Room
			if a.Kind == realtime.ActionSend {
				room = a.Target.Room()
			}
			if !strings.HasPrefix(room, tenant(ctx)+"/") {
				return realtime.ErrForbidden // also for actions without a room
			}
			return nil
		},
	})
	r.Handle("/ws/{tenant}", rt)
	return rt
}
