package integration_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

func from(addr string) func(*http.Request) {
	return func(r *http.Request) { r.RemoteAddr = addr }
}

func TestHandshakeRateOfAnAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := newManager(t, realtime.Options{HandshakeRatePerIP: 2})
		try := func(addr string) int {
			code, _, header := knock(t, rt, from(addr))
			if code == http.StatusTooManyRequests {
				require.Equal(t, "1", header.Get("Retry-After"))
			}
			return code
		}
		for range 20 { // ten seconds' worth
			require.Equal(t, passed, try("203.0.113.7:1000"))
		}
		require.Equal(t, http.StatusTooManyRequests, try("203.0.113.7:2000"), "another port")
		require.Equal(t, passed, try("203.0.113.8:1000"), "another address")
		time.Sleep(time.Second)
		require.Equal(t, passed, try("203.0.113.7:1000"))
		require.Equal(t, passed, try("203.0.113.7:1000"))
		require.Equal(t, http.StatusTooManyRequests, try("203.0.113.7:1000"))
		require.EqualValues(t, 2, rt.Stats().RefusedLimit)
	})
}

func TestAnAddressIsItsNetwork(t *testing.T) {
	for _, test := range []struct {
		one, other string
		same       bool
	}{
		{"[2001:db8:1:2::1]:1", "[2001:db8:1:2:ffff::9]:1", true},
		{"[2001:db8:1:2::1]:1", "[2001:db8:1:3::1]:1", false},
		{"203.0.113.7:1", "[::ffff:203.0.113.7]:1", true},
		{"203.0.113.7:1", "203.0.113.8:1", false},
		{"[fe80::1%eth0]:1", "[fe80::2%eth1]:1", true},
	} {
		rt := newManager(t, realtime.Options{HandshakeRatePerIP: 1})
		for range 10 {
			knock(t, rt, from(test.one))
		}
		code, _, _ := knock(t, rt, from(test.other))
		require.Equal(t, test.same, code == http.StatusTooManyRequests, "%+v", test)
	}
}

func TestPrivateAddressesAreProxies(t *testing.T) {
	for addr, private := range map[string]bool{
		"127.0.0.1:1": true, "10.1.2.3:1": true, "[fd00::1]:1": true, "[::1]:1": true,
		"@": true, "203.0.113.7:1": false, "[2001:db8::1]:1": false,
	} {
		rt := newManager(t, realtime.Options{HandshakeRate: -1})
		refused := 0
		for range 600 {
			if code, _, _ := knock(t, rt, from(addr)); code == http.StatusTooManyRequests {
				refused++
			}
		}
		require.Equal(t, private, refused == 0, addr)
	}
}

func TestHandshakeRateOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := newManager(t, realtime.Options{HandshakeRate: 1, HandshakeRatePerIP: 1})
		for range 100 { // what one address asks for too much is not missing for others
			knock(t, rt, from("203.0.113.7:1"))
		}
		for i := range 20 {
			code, _, _ := knock(t, rt, from(fmt.Sprintf("203.0.113.%d:1", 10+i)))
			require.Equal(t, http.StatusTooManyRequests, code, "the one has taken ten, and that is all")
		}
		time.Sleep(10 * time.Second)
		for i := range 10 {
			code, _, _ := knock(t, rt, from(fmt.Sprintf("203.0.113.%d:1", 10+i)))
			require.Equal(t, passed, code)
		}
	})
}

func TestConnectionsOfAnAddress(t *testing.T) {
	s := newSite(t, realtime.Options{MaxConnsPerIP: 2}, false)
	first := s.dial(t, "a")
	s.dial(t, "b")
	resp, err := s.Client().Get(s.URL + "/ws?user_id=c")
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, http.StatusTooManyRequests, resp.StatusCode)
	require.Equal(t, "5", resp.Header.Get("Retry-After"))
	require.NoError(t, first.CloseNow())
	require.Eventually(t, func() bool { return s.rt.Stats().Conns == 1 }, 5*time.Second, time.Millisecond)
	s.dial(t, "c")
}

func TestTrustedProxies(t *testing.T) {
	const client, proxy, outer = "203.0.113.7", "10.0.0.1:5000", "10.0.0.2"
	through := func(peer string, hops ...string) func(*http.Request) {
		return func(r *http.Request) {
			r.RemoteAddr = peer
			r.Header["X-Forwarded-For"] = hops
		}
	}
	for name, test := range map[string]struct {
		trust   []string
		request func(*http.Request)
		limited bool // as the client's
	}{
		"nobody is believed":       {nil, through("198.51.100.1:1", client), false},
		"a proxy is":               {[]string{"10.0.0.0/8"}, through(proxy, client), true},
		"with a port":              {[]string{"10.0.0.1"}, through(proxy, client+":4711"), true},
		"and the one before it":    {[]string{"10.0.0.0/8"}, through(proxy, client+", "+outer), true},
		"in two headers":           {[]string{"10.0.0.0/8"}, through(proxy, client, outer), true},
		"what a client makes up":   {[]string{"10.0.0.0/8"}, through(proxy, "1.2.3.4, "+client), true},
		"a proxy that is not ours": {[]string{"10.0.0.1"}, through(proxy, client+", 10.0.0.9"), false},
		"nonsense":                 {[]string{"10.0.0.0/8"}, through(proxy, client+", unknown"), false},
		"a Unix socket":            {[]string{"unix"}, through("@", client), true},
		"another Unix socket":      {[]string{"10.0.0.1"}, through("@", client), false},
	} {
		t.Run(name, func(t *testing.T) {
			rt := newManager(t, realtime.Options{TrustProxies: test.trust, HandshakeRatePerIP: 1})
			for range 10 {
				knock(t, rt, from(client+":80"))
			}
			code, _, _ := knock(t, rt, test.request)
			require.Equal(t, test.limited, code == http.StatusTooManyRequests)
		})
	}
	require.PanicsWithValue(t, `realtime: Options.TrustProxies: "proxy" is not an address such as `+
		`"10.0.0.7" or "10.0.0.0/8", nor "unix"`,
		func() { realtime.New(&realtime.Options{TrustProxies: []string{"proxy"}}) })
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
		{"http://site.example", "", true}, // the proxy does not say
		{"https://site.example", "wss", true},
		{"http://site.example", "ws", true},
		{"http://site.example", "WSS", false},
		{"http://site.example", "gopher", true},       // nor does one that says this
		{"https://site.example", "http, https", true}, // before what the proxy says is anybody's
		{"http://site.example", "http, https", false},
	} {
		rt := newManager(t, realtime.Options{TrustProxies: []string{"10.0.0.1"}})
		code, _, _ := knock(t, rt, func(r *http.Request) {
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
	}{ // each of two proxies says by whom it was asked, and how
		{[]string{"203.0.113.7", "10.0.0.2"}, []string{"https", "http"}, true},
		{[]string{"203.0.113.7, 10.0.0.2"}, []string{"https,http"}, true},
		{[]string{"198.51.100.1, 203.0.113.7, 10.0.0.2"}, []string{"http,https,http"}, true},
		{[]string{"198.51.100.1, 203.0.113.7, 10.0.0.2"}, []string{"https,http,http"}, false},
		{[]string{"203.0.113.7, 10.0.0.2"}, []string{"https"}, true}, // the last one for all
		{[]string{"203.0.113.7, 10.0.0.2"}, []string{"http"}, false},
		{[]string{"junk"}, []string{"https"}, true},
	} {
		for _, scheme := range []string{"http", "https"} {
			rt := newManager(t, realtime.Options{TrustProxies: []string{"10.0.0.0/8"}})
			code, _, _ := knock(t, rt, func(r *http.Request) {
				r.RemoteAddr = "10.0.0.1:1"
				r.Header["Origin"] = []string{scheme + "://site.example"}
				r.Header["X-Forwarded-For"] = test.hops
				r.Header["X-Forwarded-Proto"] = test.protos
			})
			require.Equal(t, test.secure == (scheme == "https"), code == passed, "%+v %s", test, scheme)
		}
	}
	rt := newManager(t, realtime.Options{})
	code, _, _ := knock(t, rt, func(r *http.Request) {
		r.Header.Set("Origin", "http://site.example")
		r.Header.Set("X-Forwarded-Proto", "https")
	})
	require.Equal(t, passed, code, "nobody is believed")
}

func TestRemoteAddrBehindAProxy(t *testing.T) {
	s := newSite(t, realtime.Options{TrustProxies: []string{"127.0.0.1"}}, false)
	nc, err := net.Dial("tcp", s.Listener.Addr().String())
	require.NoError(t, err)
	defer func() { require.NoError(t, nc.Close()) }()
	_, err = fmt.Fprintf(nc, "GET /ws?user_id=alice HTTP/1.1\r\nHost: app.example\r\nConnection: Upgrade\r\n"+
		"Upgrade: websocket\r\nX-Forwarded-For: 203.0.113.7\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	require.NoError(t, err)
	_, err = nc.Read(make([]byte, 1))
	require.NoError(t, err)
	for c := range s.rt.User("alice").LocalConns() {
		require.Equal(t, "203.0.113.7", c.Info().RemoteAddr)
	}
}

// onLoopback makes a request one that came to a server on a loopback address.
func onLoopback(r *http.Request) {
	local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}
	*r = *r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local))
	r.RemoteAddr = "127.0.0.1:5000"
}

func TestHosts(t *testing.T) {
	list := []string{"app.example.com", "*.Example.org"}
	for _, test := range []struct {
		host     string
		allowed  []string
		loopback bool
		header   string
		ok       bool
	}{
		{"evil.example", nil, false, "", true}, // anybody may ask for anything
		{"app.example.com", list, false, "", true},
		{"APP.example.com:8443", list, false, "", true},
		{"a.example.org", list, false, "", true},
		{"example.org", list, false, "", false},
		{"evilapp.example.com", list, false, "", false},
		{"evilexample.org", list, false, "", false},
		{"evil.example", list, false, "", false},
		{"evil.example", list, false, "X-Forwarded-For", false},
		{"localhost", list, true, "", false},
		{"localhost:8080", nil, true, "", true},
		{"app.localhost", nil, true, "", true},
		{"127.0.0.1:8080", nil, true, "", true},
		{"127.8.8.8", nil, true, "", true},
		{"[::1]:8080", nil, true, "", true},
		{"evil.example:8080", nil, true, "", false},
		{"localhost.evil.example", nil, true, "", false},
		{"192.168.0.1", nil, true, "", false},
		{"app.example.com", nil, true, "X-Forwarded-For", true}, // no page can add headers to a handshake
		{"app.example.com", nil, true, "Via", true},
	} {
		rt := newManager(t, realtime.Options{AllowedHosts: test.allowed})
		code, message, _ := knock(t, rt, func(r *http.Request) {
			r.Host = test.host
			r.Header.Set("Origin", "http://"+test.host) // of the page: the two are the same
			if test.loopback {
				onLoopback(r)
			}
			if test.header != "" {
				r.Header.Set(test.header, "x")
			}
		})
		if test.ok {
			require.Equal(t, passed, code, "%+v: %s", test, message)
			continue
		}
		require.Equal(t, http.StatusForbidden, code, "%+v", test)
		require.Contains(t, message, "add it to Options.AllowedHosts")
		require.EqualValues(t, 1, rt.Stats().RefusedHost)
	}
}

func TestInvalidDevice(t *testing.T) {
	rt := newManager(t, realtime.Options{
		Authenticate: func(*http.Request) (realtime.Identity, error) {
			return realtime.Identity{UserID: "alice", Device: strings.Repeat("x", 300)}, nil
		},
	})
	code, message, _ := knock(t, rt, func(*http.Request) {})
	require.Equal(t, http.StatusBadRequest, code)
	require.Equal(t, "invalid device", message)
}

func TestHostsThatNeverMatch(t *testing.T) {
	for _, entry := range []string{"", "*", "*.", "localhost:8080", "http://a.com", "a.*", "[::1]", "a b"} {
		require.PanicsWithValue(t, "realtime: Options.AllowedHosts: "+strconv.Quote(entry)+
			` is not a name such as "app.example.com" or "*.example.com", without a port`,
			func() { realtime.New(&realtime.Options{AllowedHosts: []string{entry}}) })
	}
	newManager(t, realtime.Options{AllowedHosts: []string{"a.com", "*.a.com", "LOCALHOST", "10.0.0.1", "::1"}})
}

// A page can add headers to its other requests, so there they prove nothing.
func TestHostsOfREST(t *testing.T) {
	ask := func(rt *realtime.Manager, header string) int {
		r := httptest.NewRequest(http.MethodGet, "http://app.example.com/stats", nil)
		onLoopback(r)
		if header != "" {
			r.Header.Set(header, "203.0.113.7")
		}
		w := httptest.NewRecorder()
		rt.API(realtime.InsecureAllowRequests).ServeHTTP(w, r)
		return w.Code
	}
	require.Equal(t, http.StatusForbidden, ask(newManager(t, realtime.Options{}), ""))
	require.Equal(t, http.StatusForbidden, ask(newManager(t, realtime.Options{}), "X-Forwarded-For"))
	require.Equal(t, http.StatusOK, ask(newManager(t, realtime.Options{TrustProxies: []string{"127.0.0.1"}}), ""))
	require.Equal(t, http.StatusOK, ask(newManager(t, realtime.Options{AllowedHosts: []string{"app.example.com"}}), ""))
}

func TestLogCannotBeFlooded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		lines := func() []string { return strings.Split(strings.TrimSpace(log.String()), "\n") }
		debug := &slog.HandlerOptions{Level: slog.LevelDebug}
		o := realtime.Options{Logger: slog.New(slog.NewTextHandler(&log, debug)), Authenticate: func(*http.Request) (realtime.Identity, error) {
			return realtime.Identity{}, fmt.Errorf("name %q", "a\nb\x1b[31m")
		}, HandshakeRate: -1, HandshakeRatePerIP: -1}
		rt := newManager(t, o)
		for range 1000 {
			knock(t, rt, from("203.0.113.7:1"))
		}
		require.Len(t, lines(), 1)
		require.NotContains(t, lines()[0], "\x1b")
		time.Sleep(time.Second)
		knock(t, rt, from("203.0.113.7:1"))
		require.Len(t, lines(), 2)
		require.Contains(t, lines()[1], "left_out=999")
		for i := range 5000 {
			knock(t, rt, from(fmt.Sprintf("[2001:db8:0:%x::1]:1", i)))
		}
		require.LessOrEqual(t, len(lines()), 1100)
		time.Sleep(time.Second)
		knock(t, rt, from("[2001:db8:1::1]:1"))
		require.Contains(t, lines()[len(lines())-1], "not authenticated")
		require.False(t, strings.Contains(strings.Join(lines(), ""), "\x1b"))
	})
}
