package integration_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// refusedHandshake sends a handshake that the endpoint refuses, and returns the answer.
func refusedHandshake(t *testing.T, rt *realtime.Manager, change func(*http.Request)) (int, string, http.Header) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://site.example/ws", nil)
	r.Header.Set("Connection", "keep-alive, Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	change(r)
	w := httptest.NewRecorder()
	rt.ServeHTTP(w, r)
	var body struct{ Error string }
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body), "%q", w.Body)
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
	return w.Code, body.Error, w.Header()
}

// A recorder cannot be hijacked, so a handshake that passes every check has this status.
const passed = http.StatusInternalServerError

func newManager(t *testing.T, o realtime.Options) *realtime.Manager {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	rt := realtime.New(&o)
	t.Cleanup(func() { _ = rt.Close() })
	return rt
}

func TestHandshakeRefusals(t *testing.T) {
	identify := func(r *http.Request) (realtime.Identity, error) {
		switch user := r.URL.Query().Get("user"); user {
		case "unknown":
			return realtime.Identity{}, errors.New("secret detail")
		case "banned":
			return realtime.Identity{}, realtime.ErrForbidden
		default:
			return realtime.Identity{UserID: user}, nil
		}
	}
	as := func(user string) func(*http.Request) {
		return func(r *http.Request) { r.URL.RawQuery = "user=" + user }
	}
	for name, test := range map[string]struct {
		change func(*http.Request)
		code   int
		error  string
	}{
		"plain GET":            {func(r *http.Request) { r.Header.Del("Upgrade") }, 426, "this is a WebSocket endpoint"},
		"proxy ate Connection": {func(r *http.Request) { r.Header.Set("Connection", "close") }, 426, "proxy"},
		"HTTP/2":               {func(r *http.Request) { r.ProtoMajor = 2 }, 426, "HTTP/1.1"},
		"POST":                 {func(r *http.Request) { r.Method = http.MethodPost }, 405, "use GET"},
		"unknown user":         {as("unknown"), 401, "not authenticated"},
		"banned":               {as("banned"), 403, "forbidden"},
		"reserved name":        {as("all"), 400, "invalid user id"},
		"control character":    {as("a%00b"), 400, "invalid user id"},
		"version":              {func(r *http.Request) { r.Header.Set("Sec-WebSocket-Version", "8") }, 400, "13"},
		"key":                  {func(r *http.Request) { r.Header.Set("Sec-WebSocket-Key", "x") }, 400, "Key"},
		"two keys": {func(r *http.Request) {
			r.Header.Add("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
		}, 400, "Key"},
		"HTTP/1.0": {func(r *http.Request) { r.ProtoMinor = 0 }, 426, "HTTP/1.1"},
		"many headers": {func(r *http.Request) {
			for range 101 {
				r.Header.Add("X", "y")
			}
		}, 431, "too many headers"},
		"large headers": {func(r *http.Request) {
			r.Header.Set("X", strings.Repeat("y", 16<<10))
		}, 431, "too many headers"},
	} {
		t.Run(name, func(t *testing.T) {
			rt := newManager(t, realtime.Options{Authenticate: identify})
			code, message, header := refusedHandshake(t, rt, test.change)
			require.Equal(t, test.code, code)
			require.Contains(t, message, test.error)
			require.NotContains(t, message, "secret")
			require.Equal(t, test.code == 405, header.Get("Allow") == http.MethodGet)
			if name == "HTTP/2" {
				require.Empty(t, header.Get("Upgrade"), "that header is an error in HTTP/2")
			}
			s := rt.Stats()
			require.EqualValues(t, 1, s.RefusedAuth+s.RefusedRequest)
			require.Zero(t, s.Accepted)
		})
	}
}

func TestRefusalsLeaveNothing(t *testing.T) {
	rt := newManager(t, realtime.Options{
		Limits: realtime.Limits{Conns: 1, HandshakeRatePerIP: -1}, Authenticate: realtime.InsecureQueryUser,
	})
	for range 1000 {
		code, message, _ := refusedHandshake(t, rt, func(r *http.Request) { r.URL.RawQuery = "user_id=u" })
		require.Equal(t, passed, code, "the place was released")
		require.Contains(t, message, "*httptest.ResponseRecorder has neither Hijack nor Unwrap")
	}
	s := rt.Stats()
	require.Zero(t, s.Conns+s.Users)
	require.Zero(t, s.Accepted)
}

// unhijackable is a ResponseWriter whose Hijack fails.
type unhijackable struct{ *httptest.ResponseRecorder }

func (unhijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, errors.New("taken over already")
}

// If the connection cannot be taken over from the HTTP server, or is broken, its place is released.
func TestFailedUpgradeLeavesNothing(t *testing.T) {
	rt := newManager(t, realtime.Options{
		Limits: realtime.Limits{Conns: 1, ConnsPerUser: 1}, Authenticate: realtime.InsecureQueryUser,
	})
	closed, far := net.Pipe()
	require.NoError(t, far.Close())
	require.NoError(t, closed.Close())
	const n = 3
	for range n {
		w := httptest.NewRecorder()
		rt.ServeHTTP(unhijackable{w}, upgradeRequest(false))
		require.Equal(t, http.StatusInternalServerError, w.Code)
		rt.ServeHTTP(hijackable{httptest.NewRecorder(), closed, ""}, upgradeRequest(false))
	}
	s := rt.Stats()
	require.EqualValues(t, 2*n, s.RefusedRequest)
	require.Zero(t, s.Accepted)
	near, far := net.Pipe()
	rt.ServeHTTP(hijackable{httptest.NewRecorder(), near, ""}, upgradeRequest(false))
	require.Equal(t, 1, rt.Stats().Conns, "there is a place")
	require.NoError(t, far.Close())
	require.NoError(t, rt.Close(), "no place is left over")
}

func TestNewServer(t *testing.T) {
	srv := realtime.NewServer("localhost:0", http.NotFoundHandler())
	require.NotZero(t, srv.ReadHeaderTimeout)
	require.Equal(t, 16<<10, srv.MaxHeaderBytes)
	require.Zero(t, srv.ReadTimeout+srv.WriteTimeout, "it would cut long answers")
}

// The context of a connection has the values of the request that Options.ConnContext chooses, and
// no others.
func TestConnContext(t *testing.T) {
	type kept struct{}
	type other struct{}
	conns := make(chan *realtime.Conn, 1)
	serve := func(choose func(context.Context, *http.Request) context.Context) *httptest.Server {
		rt := newManager(t, realtime.Options{
			ConnContext: choose,
			OnConnect: func(ctx context.Context, c *realtime.Conn) error {
				require.Equal(t, c.Context(), ctx)
				conns <- c
				return nil
			},
		})
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx := context.WithValue(context.WithValue(r.Context(), kept{}, "mine"), other{}, "another's")
			rt.ServeHTTP(w, r.WithContext(ctx))
		}))
		srv.Config.ErrorLog = log.New(io.Discard, "", 0)
		srv.Start()
		t.Cleanup(srv.Close)
		return srv
	}
	dial := func(srv *httptest.Server) error {
		ws, _, err := websocket.Dial(t.Context(), srv.URL, nil)
		if err == nil {
			t.Cleanup(func() { _ = ws.CloseNow() })
		}
		return err
	}

	require.NoError(t, dial(serve(func(ctx context.Context, r *http.Request) context.Context {
		return context.WithValue(ctx, kept{}, r.Context().Value(kept{}))
	})))
	c := <-conns
	require.Equal(t, "mine", c.Context().Value(kept{}))
	require.Nil(t, c.Context().Value(other{}))
	require.Nil(t, c.Context().Value(http.ServerContextKey))

	require.NoError(t, dial(serve(nil)))
	require.Nil(t, (<-conns).Context().Value(kept{}))

	for name, choose := range map[string]func(context.Context, *http.Request) context.Context{
		"the request's": func(_ context.Context, r *http.Request) context.Context { return r.Context() },
		"none":          func(context.Context, *http.Request) context.Context { return nil },
	} {
		require.Error(t, dial(serve(choose)), name)
	}
}
