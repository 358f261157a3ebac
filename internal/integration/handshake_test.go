package integration_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// knock sends a handshake to the endpoint that it refuses, and returns the answer.
func knock(t *testing.T, rt *realtime.Manager, change func(*http.Request)) (int, string, http.Header) {
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

// A recorder cannot be hijacked, so a handshake that passes every check ends here.
const passed = http.StatusInternalServerError

func newManager(t *testing.T, o realtime.Options) *realtime.Manager {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	rt := realtime.New(&o)
	t.Cleanup(func() { _ = rt.Close() })
	return rt
}

func TestOrigin(t *testing.T) {
	secure := func(r *http.Request) { r.TLS = &tls.ConnectionState{} }
	plain := func(*http.Request) {}
	host := func(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }
	listed := []string{"https://app.example.com", "https://*.example.org", "http://localhost:5173"}
	files, views := []string{"null"}, []string{"file://", "capacitor://localhost"}
	for _, test := range []struct {
		origin  string
		request func(*http.Request)
		allowed []string
		ok      bool
	}{
		{"", plain, nil, true},
		{"http://site.example", plain, nil, true},
		{"https://site.example", plain, nil, true}, // a proxy may end TLS
		{"http://SITE.example:80", plain, nil, true},
		{"http://site.example:8080", plain, nil, false},
		{"http://site.example:8080", host("site.example:8080"), nil, true},
		{"https://site.example", secure, nil, true},
		{"http://site.example", secure, nil, false}, // downgraded page
		{"http://[::1]:8080", host("[::1]:8080"), nil, true},
		{"http://evil.example", plain, nil, false},
		{"http://site.example.evil.example", plain, nil, false},
		{"http://evilsite.example", plain, nil, false},
		{"http://user@site.example", plain, nil, false},
		{"http://site.example/path", plain, nil, false},
		{"null", plain, nil, false},
		{"file://", plain, nil, false},
		{"ftp://site.example", plain, nil, false},
		{"null", plain, files, true},
		{"file://", plain, files, false},
		{"file://", plain, views, true},
		{"null", plain, views, false},
		{"file:///etc", plain, views, false},
		{"capacitor://localhost", plain, views, true},
		{"http://evil.example", plain, files, false},
		{"https://app.example.com", plain, listed, true},
		{"https://APP.example.com:443", plain, listed, true},
		{"http://app.example.com", plain, listed, false},
		{"https://app.example.com:444", plain, listed, false},
		{"https://a.b.example.org", plain, listed, true},
		{"https://example.org", plain, listed, false},
		{"https://evilexample.org", plain, listed, false},
		{"http://localhost:5173", plain, listed, true},
		{"http://localhost:5174", plain, listed, false},
	} {
		rt := newManager(t, realtime.Options{Origins: test.allowed})
		code, message, _ := knock(t, rt, func(r *http.Request) {
			test.request(r)
			if test.origin != "" {
				r.Header.Set("Origin", test.origin)
			}
		})
		if test.ok {
			require.Equal(t, passed, code, "%+v", test)
			continue
		}
		require.Equal(t, http.StatusForbidden, code, "%+v", test)
		require.Equal(t, `origin "`+test.origin+`" is not allowed: add it to Options.Origins`, message)
		require.EqualValues(t, 1, rt.Stats().RefusedOrigin)
	}
}

func TestOriginOptions(t *testing.T) {
	foreign := func(r *http.Request) { r.Header.Set("Origin", "null") }
	code, _, _ := knock(t, newManager(t, realtime.Options{InsecureAnyOrigin: true}), foreign)
	require.Equal(t, passed, code)
	code, message, _ := knock(t, newManager(t, realtime.Options{RequireOrigin: true}), func(*http.Request) {})
	require.Equal(t, http.StatusForbidden, code)
	require.Equal(t, "an Origin header is required", message)
	code, _, _ = knock(t, newManager(t, realtime.Options{}), func(r *http.Request) {
		r.Header["Origin"] = []string{"http://site.example", "http://evil.example"}
	})
	require.Equal(t, http.StatusForbidden, code)

	// A request of a page that names no origin: for a picture, or a script.
	for site, want := range map[string]int{
		"same-origin": passed, "none": passed, "same-site": http.StatusForbidden, "cross-site": http.StatusForbidden,
	} {
		code, _, _ = knock(t, newManager(t, realtime.Options{}), func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", site)
		})
		require.Equal(t, want, code, site)
	}

	for _, bad := range []string{"example.com", "localhost:5173", "*", "https://a.example/path", ""} {
		require.PanicsWithValue(t, `realtime: Options.Origins: "`+bad+`" is not an origin such as `+
			`"https://app.example.com" or "https://*.example.com"`,
			func() { realtime.New(&realtime.Options{Origins: []string{bad}}) })
	}
}

// A page can read why it was refused if it may know: one that is allowed, and any page that it is
// not allowed.
func TestPagesReadRefusals(t *testing.T) {
	rt := newManager(t, realtime.Options{
		Origins: []string{"https://app.example.com"},
		Authenticate: func(*http.Request) (realtime.Identity, error) {
			return realtime.Identity{}, realtime.ErrUnauthenticated
		},
	})
	from := func(origins ...string) (int, http.Header) {
		code, _, h := knock(t, rt, func(r *http.Request) { r.Header["Origin"] = origins })
		return code, h
	}
	for _, origin := range []string{"https://app.example.com", "http://site.example", "http://evil.example"} {
		code, h := from(origin)
		require.Equal(t, origin == "http://evil.example", code == http.StatusForbidden)
		require.Equal(t, []string{origin}, h.Values("Access-Control-Allow-Origin"))
		require.Equal(t, "true", h.Get("Access-Control-Allow-Credentials"))
		require.Equal(t, "Retry-After", h.Get("Access-Control-Expose-Headers"))
		require.Equal(t, "Origin", h.Get("Vary"))
	}
	preflight := func(origin string) (int, http.Header) {
		r := httptest.NewRequest(http.MethodOptions, "http://site.example/ws", nil)
		r.Header.Set("Origin", origin)
		r.Header.Set("Access-Control-Request-Method", "GET")
		r.Header.Set("Access-Control-Request-Headers", "authorization")
		w := httptest.NewRecorder()
		rt.ServeHTTP(w, r)
		return w.Code, w.Header()
	}
	code, h := preflight("https://app.example.com")
	require.Equal(t, http.StatusNoContent, code)
	require.Equal(t, "Authorization", h.Get("Access-Control-Allow-Headers"))
	require.Equal(t, "https://app.example.com", h.Get("Access-Control-Allow-Origin"))
	code, h = preflight("http://evil.example")
	require.Equal(t, http.StatusForbidden, code)
	require.Empty(t, h.Get("Access-Control-Allow-Headers"))

	_, h = from()
	require.Empty(t, h.Get("Access-Control-Allow-Origin"))
	_, h = from("http://site.example", "http://evil.example")
	require.Empty(t, h.Get("Access-Control-Allow-Origin"))
	require.NoError(t, rt.Close())
	code, h = from("http://evil.example")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Empty(t, h.Get("Access-Control-Allow-Origin"), "it is none of its business")
	code, h = from("https://app.example.com")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.NotEmpty(t, h.Get("Access-Control-Allow-Origin"))
}

// A browser asks before its page may ask, for each page that may: also for one whose origin has no
// host, and where all may.
func TestPreflight(t *testing.T) {
	for origin, o := range map[string]realtime.Options{
		"https://app.example.com": {Origins: []string{"https://app.example.com"}},
		"http://site.example":     {},
		"null":                    {Origins: []string{"null"}},
		"file://":                 {Origins: []string{"file://"}},
		"http://evil.example":     {InsecureAnyOrigin: true},
	} {
		r := httptest.NewRequest(http.MethodOptions, "http://site.example/ws", nil)
		r.Header.Set("Origin", origin)
		r.Header.Set("Access-Control-Request-Method", "GET")
		r.Header.Set("Access-Control-Request-Headers", "authorization")
		w := httptest.NewRecorder()
		newManager(t, o).ServeHTTP(w, r)
		require.Equal(t, http.StatusNoContent, w.Code, origin)
		require.Equal(t, "Authorization", w.Header().Get("Access-Control-Allow-Headers"), origin)
		require.Equal(t, origin, w.Header().Get("Access-Control-Allow-Origin"))
	}
}

// A browser names no origin where a page asks its own server by a plain request, so a page that
// asks why its WebSocket did not open is told that, and not that it has to name one.
func TestRequiredOriginAndPlainRequests(t *testing.T) {
	rt := newManager(t, realtime.Options{RequireOrigin: true})
	code, message, _ := knock(t, rt, func(r *http.Request) {
		r.Header.Del("Connection")
		r.Header.Del("Upgrade")
	})
	require.Equal(t, http.StatusUpgradeRequired, code, message)
	code, _, _ = knock(t, rt, func(r *http.Request) {
		r.Header.Del("Connection")
		r.Header.Set("Upgrade", "h2c, WebSocket")
	})
	require.Equal(t, http.StatusForbidden, code)
}

func TestRefusedOriginIsLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	rt := newManager(t, realtime.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for range 10 {
		knock(t, rt, func(r *http.Request) { r.Header.Set("Origin", "http://evil.example\n") })
	}
	require.Equal(t, 1, strings.Count(log.String(), "\n"))
	require.Contains(t, log.String(), "add it to Options.Origins")
	for i := range 1000 {
		knock(t, rt, func(r *http.Request) { r.Header.Set("Origin", "http://"+strings.Repeat("x", i)) })
	}
	require.Less(t, strings.Count(log.String(), "\n"), 150, "a flood of names does not flood the log")
}

func TestHandshakeRefusals(t *testing.T) {
	who := func(r *http.Request) (realtime.Identity, error) {
		switch user := r.URL.Query().Get("user"); user {
		case "nobody":
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
		"nobody":               {as("nobody"), 401, "not authenticated"},
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
			rt := newManager(t, realtime.Options{Authenticate: who})
			code, message, header := knock(t, rt, test.change)
			require.Equal(t, test.code, code)
			require.Contains(t, message, test.error)
			require.NotContains(t, message, "secret")
			require.Equal(t, test.code == 405, header.Get("Allow") == http.MethodGet)
			if name == "HTTP/2" {
				require.Empty(t, header.Get("Upgrade"), "it is an error there")
			}
			s := rt.Stats()
			require.EqualValues(t, 1, s.RefusedAuth+s.RefusedRequest)
			require.Zero(t, s.Accepted)
		})
	}
}

func TestRefusalsLeaveNothing(t *testing.T) {
	rt := newManager(t, realtime.Options{
		MaxConns: 1, HandshakeRatePerIP: -1, Authenticate: realtime.InsecureQueryUser,
	})
	for range 1000 {
		code, message, _ := knock(t, rt, func(r *http.Request) { r.URL.RawQuery = "user_id=u" })
		require.Equal(t, passed, code, "the place was given back")
		require.Contains(t, message, "*httptest.ResponseRecorder has neither Hijack nor Unwrap")
	}
	s := rt.Stats()
	require.Zero(t, s.Conns+s.Users)
	require.Zero(t, s.Accepted)
}

func TestEndpointWhileShuttingDown(t *testing.T) {
	rt := newManager(t, realtime.Options{})
	require.NoError(t, rt.Shutdown(t.Context()))
	code, message, header := knock(t, rt, func(*http.Request) {})
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "shutting down", message)
	require.Empty(t, header.Get("Retry-After"), "a server that takes over may be there at once")
	require.EqualValues(t, 1, rt.Stats().RefusedShutdown)
}

func TestNewServer(t *testing.T) {
	srv := realtime.NewServer("localhost:0", http.NotFoundHandler())
	require.NotZero(t, srv.ReadHeaderTimeout)
	require.Equal(t, 16<<10, srv.MaxHeaderBytes)
	require.Zero(t, srv.ReadTimeout+srv.WriteTimeout, "they would cut long answers")
}

// TestConnContext checks what of a request the context of its connection has: what
// Options.ConnContext chose, and nothing else.
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
