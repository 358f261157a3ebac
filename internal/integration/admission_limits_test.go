package integration_test

import (
	"errors"
	"fmt"
	"net/http"
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
		rt := newManager(t, realtime.Options{Limits: realtime.Limits{HandshakeRatePerIP: 2}})
		try := func(addr string) int {
			code, _, header := refusedHandshake(t, rt, from(addr))
			if code == http.StatusTooManyRequests {
				require.Equal(t, "1", header.Get("Retry-After"))
			}
			return code
		}
		for range 20 { // for ten seconds
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

func TestHandshakeRateOfANetwork(t *testing.T) {
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
		rt := newManager(t, realtime.Options{Limits: realtime.Limits{HandshakeRatePerIP: 1}})
		for range 10 {
			refusedHandshake(t, rt, from(test.one))
		}
		code, _, _ := refusedHandshake(t, rt, from(test.other))
		require.Equal(t, test.same, code == http.StatusTooManyRequests, "%+v", test)
	}
}

func TestHandshakeRateOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := newManager(t, realtime.Options{Limits: realtime.Limits{HandshakeRate: 1, HandshakeRatePerIP: 1}})
		for range 100 { // attempts above the limit of an address do not count in the limit of all
			refusedHandshake(t, rt, from("203.0.113.7:1"))
		}
		for i := range 20 {
			code, _, _ := refusedHandshake(t, rt, from(fmt.Sprintf("203.0.113.%d:1", 10+i)))
			require.Equal(t, http.StatusTooManyRequests, code, "the first address has used ten")
		}
		time.Sleep(10 * time.Second)
		for i := range 10 {
			code, _, _ := refusedHandshake(t, rt, from(fmt.Sprintf("203.0.113.%d:1", 10+i)))
			require.Equal(t, passed, code)
		}
	})
}

func TestConnectionsOfAnAddress(t *testing.T) {
	s := newTestServer(t, realtime.Options{Limits: realtime.Limits{ConnsPerIP: 2}}, false)
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

func TestConnLimits(t *testing.T) {
	bubble(t, realtime.Options{Limits: realtime.Limits{Conns: 3, ConnsPerUser: 2}}, func(t *testing.T, b *bed) {
		one, two := b.dial("alice"), b.dial("alice")
		require.NoError(t, errors.Join(one.err, two.err))
		require.ErrorIs(t, b.dial("alice").err, realtime.ErrTooManyConns)
		require.NoError(t, b.dial("bob").err)
		require.ErrorIs(t, b.dial("carol").err, realtime.ErrTooManyConns)
		one.Drop()
		synctest.Wait()
		require.NoError(t, b.dial("alice").err, "a place was released")
		require.ErrorIs(t, b.dial("all").err, realtime.ErrInvalidName, "reserved")
		require.ErrorIs(t, b.dial("a\nb").err, realtime.ErrInvalidName)
	})
}
