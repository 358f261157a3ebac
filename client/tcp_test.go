package client_test

import (
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// startServer serves a Manager on a loopback address.
func startServer(t *testing.T, secure bool, o realtime.Options) (*httptest.Server, *realtime.Manager) {
	o.Authenticate, o.Authorize = realtime.InsecureQueryUser, realtime.InsecureAllowAll
	o.Logger = slog.New(slog.DiscardHandler)
	rt := realtime.New(&o)
	s := httptest.NewUnstartedServer(rt)
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(func() {
		require.NoError(t, rt.Close())
		s.Close()
	})
	return s, rt
}

func TestOverTCP(t *testing.T) {
	for name, secure := range map[string]bool{"tcp": false, "tls": true} {
		t.Run(name, func(t *testing.T) {
			s, rt := startServer(t, secure, realtime.Options{
				Show: realtime.ShowCount, Limits: realtime.Limits{MessageBytes: 1 << 20},
			})
			dial := func(user string) *client.Client {
				c, err := client.Dial(t.Context(), s.URL+"?user_id="+user, &client.DialOptions{HTTPClient: s.Client()})
				require.NoError(t, err)
				t.Cleanup(func() { _ = c.Close() })
				require.NoError(t, c.Join(t.Context(), "lobby"))
				return c
			}
			alice, bob := dial("alice"), dial("bob")
			large := `"` + strings.Repeat("x", 256<<10) + `"`
			require.NoError(t, alice.Send(t.Context(), realtime.ToRoom("lobby"), realtime.Message{Content: []byte(large)}))
			cuts := 0
			for m, err := range bob.Messages() {
				if gap, ok := err.(*client.GapError); ok {
					require.Equal(t, "gap 1011", describeError(gap))
					p, err := bob.FetchPresence(t.Context(), "lobby")
					require.NoError(t, err)
					require.Equal(t, 2, p.ConnCount, "the room was joined again")
					break
				}
				require.NoError(t, err)
				require.Equal(t, large, string(m.Content))
				cuts++
				_, err = rt.User("bob").Disconnect(t.Context(), 1011, "")
				require.NoError(t, err)
			}
			require.Equal(t, 1, cuts)
		})
	}
}

// TestDialWithoutOptions tests nil options, and URLs with http and ws.
func TestDialWithoutOptions(t *testing.T) {
	s, _ := startServer(t, false, realtime.Options{})
	for _, url := range []string{s.URL, strings.Replace(s.URL, "http", "ws", 1)} {
		c, err := client.Dial(t.Context(), url, nil)
		require.NoError(t, err)
		require.NoError(t, c.Send(t.Context(), realtime.ToAll(), realtime.Message{}))
		began := time.Now()
		require.NoError(t, c.Close())
		require.Less(t, time.Since(began), time.Second)
	}
}

// TestCloseAfterServerEnds tests that Close returns if the server has gone and no loop reads the
// messages.
func TestCloseAfterServerEnds(t *testing.T) {
	s, _ := startServer(t, false, realtime.Options{})
	c, err := client.Dial(t.Context(), s.URL, nil)
	require.NoError(t, err)
	s.CloseClientConnections()
	require.NoError(t, s.Listener.Close())
	require.NoError(t, c.Close())
}
