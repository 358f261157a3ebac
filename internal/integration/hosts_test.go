package integration_test

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// onLoopback makes it a request to a server on a loopback address.
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
		{"evil.example", nil, false, "", true}, // without a list, off a loopback address: any host
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
		code, message, _ := refusedHandshake(t, rt, func(r *http.Request) {
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

func TestHostsThatNeverMatch(t *testing.T) {
	for _, entry := range []string{"", "*", "*.", "localhost:8080", "http://a.com", "a.*", "[::1]", "a b"} {
		require.PanicsWithValue(t, "realtime: Options.AllowedHosts: "+strconv.Quote(entry)+
			` is not a name such as "app.example.com" or "*.example.com", without a port`,
			func() { realtime.New(&realtime.Options{AllowedHosts: []string{entry}}) })
	}
	newManager(t, realtime.Options{AllowedHosts: []string{"a.com", "*.a.com", "LOCALHOST", "10.0.0.1", "::1"}})
}
