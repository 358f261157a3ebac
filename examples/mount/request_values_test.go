package mount

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/coder/websocket"
	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/labstack/echo/v4"
	"github.com/realtime-go/realtime"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// tenantKey is the key of the tenant in the context of a connection.
type tenantKey struct{}

// tenants mounts a Manager under a path with a parameter on three routers. Routers that keep
// parameters in their own context copy the parameter into the context of the request.
func tenants() map[string]func(rt http.Handler) http.Handler {
	withTenant := func(r *http.Request, tenant string) *http.Request {
		return r.WithContext(context.WithValue(r.Context(), tenantKey{}, tenant))
	}
	nothing := func(http.ResponseWriter, *http.Request) {}
	return map[string]func(rt http.Handler) http.Handler{
		"chi": func(rt http.Handler) http.Handler {
			r := chi.NewRouter()
			r.Handle("/ws/{tenant}", rt)
			r.Get("/public/{tenant}", nothing)
			return r
		},
		"gin": func(rt http.Handler) http.Handler {
			r := newGin()
			r.GET("/ws/:tenant", func(c *gin.Context) {
				rt.ServeHTTP(c.Writer, withTenant(c.Request, c.Param("tenant")))
			})
			r.GET("/public/:tenant", func(*gin.Context) {})
			return r
		},
		"echo": func(rt http.Handler) http.Handler {
			e := echo.New()
			e.GET("/ws/:tenant", func(c echo.Context) error {
				rt.ServeHTTP(c.Response(), withTenant(c.Request(), c.Param("tenant")))
				return nil
			})
			e.GET("/public/:tenant", func(echo.Context) error { return nil })
			return e
		},
	}
}

// TestRequestValues tests that a handler reads the values of the request that opened its
// connection, and not those of later requests of the router.
func TestRequestValues(t *testing.T) {
	for name, mount := range tenants() {
		t.Run(name, func(t *testing.T) {
			defer goleak.VerifyNone(t)
			rt := realtime.New(&realtime.Options{
				Authenticate: realtime.InsecureQueryUser,
				Authorize:    realtime.InsecureAllowAll,
				ConnContext: func(ctx context.Context, r *http.Request) context.Context {
					tenant, ok := r.Context().Value(tenantKey{}).(string)
					if !ok {
						tenant = chi.URLParam(r, "tenant")
					}
					return context.WithValue(ctx, tenantKey{}, tenant)
				},
				OnMessage: func(ctx context.Context, _ *realtime.Conn, _ realtime.Inbound) (any, error) {
					return fmt.Sprint(ctx.Value(tenantKey{}), chi.URLParamFromCtx(ctx, "tenant")), nil
				},
			})
			srv := httptest.NewServer(mount(rt))
			defer srv.Close()
			defer rt.Close()

			alpha := dialTenant(t, srv, "alpha")
			for range 20 {
				res, err := srv.Client().Get(srv.URL + "/public/victim")
				require.NoError(t, err)
				require.NoError(t, res.Body.Close())
			}
			beta := dialTenant(t, srv, "beta")
			require.Equal(t, "alpha", askTenant(t, alpha))
			require.Equal(t, "beta", askTenant(t, beta))
		})
	}
}

func dialTenant(t *testing.T, srv *httptest.Server, tenant string) *websocket.Conn {
	ws, _, err := websocket.Dial(t.Context(), srv.URL+"/ws/"+tenant+"?user_id=ann", &websocket.DialOptions{
		HTTPClient: srv.Client(), Subprotocols: []string{realtime.V1},
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = ws.CloseNow() })
	return ws
}

// askTenant calls the server to get the tenant of a connection.
func askTenant(t *testing.T, ws *websocket.Conn) (tenant string) {
	require.NoError(t, ws.Write(t.Context(), websocket.MessageText, []byte(`{"type":"call","id":1,"method":"tenant"}`)))
	for {
		_, p, err := ws.Read(t.Context())
		require.NoError(t, err)
		var reply struct {
			Type    string          `json:"message_type"`
			Content json.RawMessage `json:"content"`
		}
		require.NoError(t, json.Unmarshal(p, &reply))
		if reply.Type == "reply" {
			require.NoError(t, json.Unmarshal(reply.Content, &tenant))
			return tenant
		}
	}
}
