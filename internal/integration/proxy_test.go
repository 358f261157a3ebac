package integration_test

import (
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

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
		limited bool // whether the request counts for the address of the client
	}{
		"without trusted proxies":            {nil, through("198.51.100.1:1", client), false},
		"a trusted proxy":                    {[]string{"10.0.0.0/8"}, through(proxy, client), true},
		"with a port":                        {[]string{"10.0.0.1"}, through(proxy, client+":4711"), true},
		"two trusted proxies":                {[]string{"10.0.0.0/8"}, through(proxy, client+", "+outer), true},
		"in two headers":                     {[]string{"10.0.0.0/8"}, through(proxy, client, outer), true},
		"an address that the client made up": {[]string{"10.0.0.0/8"}, through(proxy, "1.2.3.4, "+client), true},
		"an untrusted proxy before it":       {[]string{"10.0.0.1"}, through(proxy, client+", 10.0.0.9"), false},
		"no address":                         {[]string{"10.0.0.0/8"}, through(proxy, client+", unknown"), false},
		"a Unix socket":                      {[]string{"unix"}, through("@", client), true},
		"another Unix socket":                {[]string{"10.0.0.1"}, through("@", client), false},
	} {
		t.Run(name, func(t *testing.T) {
			rt := newManager(t, realtime.Options{TrustProxies: test.trust, Limits: realtime.Limits{HandshakeRatePerIP: 1}})
			for range 10 {
				refusedHandshake(t, rt, from(client+":80"))
			}
			code, _, _ := refusedHandshake(t, rt, test.request)
			require.Equal(t, test.limited, code == http.StatusTooManyRequests)
		})
	}
	require.PanicsWithValue(t, `realtime: Options.TrustProxies: "proxy" is not an address such as `+
		`"10.0.0.7" or "10.0.0.0/8", nor "unix"`,
		func() { realtime.New(&realtime.Options{TrustProxies: []string{"proxy"}}) })
}

// The address of a client for humans has a port, unless a proxy has told the address.
func TestRemoteAddrBehindAProxy(t *testing.T) {
	s := newTestServer(t, realtime.Options{TrustProxies: []string{"127.0.0.1"}}, false)
	for user, header := range map[string]string{
		"alice": "X-Forwarded-For: 203.0.113.7\r\n",
		"bob":   "",
	} {
		nc, err := net.Dial("tcp", s.Listener.Addr().String())
		require.NoError(t, err)
		defer func() { require.NoError(t, nc.Close()) }()
		_, err = fmt.Fprintf(nc, "GET /ws?user_id=%s HTTP/1.1\r\nHost: app.example\r\n"+
			"Connection: Upgrade\r\nUpgrade: websocket\r\n%sSec-WebSocket-Version: 13\r\n"+
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", user, header)
		require.NoError(t, err)
		_, err = nc.Read(make([]byte, 1))
		require.NoError(t, err)
		want := "203.0.113.7"
		if header == "" {
			want = nc.LocalAddr().String()
		}
		var got []string
		for c := range s.rt.User(user).LocalConns() {
			got = append(got, c.Info().RemoteAddr)
		}
		require.Equal(t, []string{want}, got)
	}
}

func TestPrivateAddressesAreProxies(t *testing.T) {
	for addr, private := range map[string]bool{
		"127.0.0.1:1": true, "10.1.2.3:1": true, "[fd00::1]:1": true, "[::1]:1": true,
		"@": true, "203.0.113.7:1": false, "[2001:db8::1]:1": false,
	} {
		rt := newManager(t, realtime.Options{Limits: realtime.Limits{HandshakeRate: -1}})
		refused := 0
		for range 600 {
			if code, _, _ := refusedHandshake(t, rt, from(addr)); code == http.StatusTooManyRequests {
				refused++
			}
		}
		require.Equal(t, private, refused == 0, addr)
	}
}
