package integration_test

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

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
		code, message, _ := refusedHandshake(t, rt, func(r *http.Request) {
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
	code, _, _ := refusedHandshake(t, newManager(t, realtime.Options{InsecureAnyOrigin: true}), foreign)
	require.Equal(t, passed, code)
	code, message, _ := refusedHandshake(t, newManager(t, realtime.Options{RequireOrigin: true}), func(*http.Request) {})
	require.Equal(t, http.StatusForbidden, code)
	require.Equal(t, "an Origin header is required", message)
	code, _, _ = refusedHandshake(t, newManager(t, realtime.Options{}), func(r *http.Request) {
		r.Header["Origin"] = []string{"http://site.example", "http://evil.example"}
	})
	require.Equal(t, http.StatusForbidden, code)

	// Requests of a page without an Origin header: for an image or a script.
	for site, want := range map[string]int{
		"same-origin": passed, "none": passed, "same-site": http.StatusForbidden, "cross-site": http.StatusForbidden,
	} {
		code, _, _ = refusedHandshake(t, newManager(t, realtime.Options{}), func(r *http.Request) {
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

// A page of an allowed origin can read why it was refused. Any other page can only read that its
// origin is not allowed.
func TestPagesReadRefusals(t *testing.T) {
	rt := newManager(t, realtime.Options{
		Origins: []string{"https://app.example.com"},
		Authenticate: func(*http.Request) (realtime.Identity, error) {
			return realtime.Identity{}, realtime.ErrUnauthenticated
		},
	})
	from := func(origins ...string) (int, http.Header) {
		code, _, h := refusedHandshake(t, rt, func(r *http.Request) { r.Header["Origin"] = origins })
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
	require.Empty(t, h.Get("Access-Control-Allow-Origin"), "the reason is not for other origins")
	code, h = from("https://app.example.com")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.NotEmpty(t, h.Get("Access-Control-Allow-Origin"))
}

// A preflight request is answered for each page that is allowed, also if its origin has no host and
// if all pages are allowed.
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

// A browser sends no Origin header with a plain request to the same origin. A page that asks why
// its WebSocket was refused gets the reason, and not that the header is missing.
func TestRequiredOriginAndPlainRequests(t *testing.T) {
	rt := newManager(t, realtime.Options{RequireOrigin: true})
	code, message, _ := refusedHandshake(t, rt, func(r *http.Request) {
		r.Header.Del("Connection")
		r.Header.Del("Upgrade")
	})
	require.Equal(t, http.StatusUpgradeRequired, code, message)
	code, _, _ = refusedHandshake(t, rt, func(r *http.Request) {
		r.Header.Del("Connection")
		r.Header.Set("Upgrade", "h2c, WebSocket")
	})
	require.Equal(t, http.StatusForbidden, code)
}

func TestOriginSchemeBehindAProxy(t *testing.T) {
	for _, test := range []struct {
		origin, proto string
		ok            bool
	}{
		{"https://site.example", "https", true},
		{"http://site.example", "http", true},
		{"http://site.example", "https", false}, // downgraded page
		{"https://site.example", "http", false},
		{"http://site.example", "", true}, // the proxy does not send it
		{"https://site.example", "wss", true},
		{"http://site.example", "ws", true},
		{"http://site.example", "WSS", false},
		{"http://site.example", "gopher", true},       // not a scheme of the web: ignored
		{"https://site.example", "http, https", true}, // the first values are not from the trusted proxy
		{"http://site.example", "http, https", false},
	} {
		rt := newManager(t, realtime.Options{TrustProxies: []string{"10.0.0.1"}})
		code, _, _ := refusedHandshake(t, rt, func(r *http.Request) {
			r.RemoteAddr = "10.0.0.1:1"
			r.Header.Set("Origin", test.origin)
			if test.proto != "" {
				r.Header.Set("X-Forwarded-Proto", test.proto)
			}
		})
		require.Equal(t, test.ok, code == passed, "%+v", test)
	}
	for _, test := range []struct {
		hops, protos []string
		secure       bool
	}{ // each of two proxies adds the address of its client, and the scheme
		{[]string{"203.0.113.7", "10.0.0.2"}, []string{"https", "http"}, true},
		{[]string{"203.0.113.7, 10.0.0.2"}, []string{"https,http"}, true},
		{[]string{"198.51.100.1, 203.0.113.7, 10.0.0.2"}, []string{"http,https,http"}, true},
		{[]string{"198.51.100.1, 203.0.113.7, 10.0.0.2"}, []string{"https,http,http"}, false},
		{[]string{"203.0.113.7, 10.0.0.2"}, []string{"https"}, true}, // the last scheme counts for all
		{[]string{"203.0.113.7, 10.0.0.2"}, []string{"http"}, false},
		{[]string{"junk"}, []string{"https"}, true},
	} {
		for _, scheme := range []string{"http", "https"} {
			rt := newManager(t, realtime.Options{TrustProxies: []string{"10.0.0.0/8"}})
			code, _, _ := refusedHandshake(t, rt, func(r *http.Request) {
				r.RemoteAddr = "10.0.0.1:1"
				r.Header["Origin"] = []string{scheme + "://site.example"}
				r.Header["X-Forwarded-For"] = test.hops
				r.Header["X-Forwarded-Proto"] = test.protos
			})
			require.Equal(t, test.secure == (scheme == "https"), code == passed, "%+v %s", test, scheme)
		}
	}
	rt := newManager(t, realtime.Options{})
	code, _, _ := refusedHandshake(t, rt, func(r *http.Request) {
		r.Header.Set("Origin", "http://site.example")
		r.Header.Set("X-Forwarded-Proto", "https")
	})
	require.Equal(t, passed, code, "without trusted proxies")
}
