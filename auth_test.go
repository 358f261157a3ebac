package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// open opens a connection with a ticket, over HTTP.
func openWith(t *testing.T, rt *realtime.Manager, query string) (status int) {
	t.Helper()
	s := httptest.NewServer(rt)
	defer s.Close()
	ws, response, err := websocket.Dial(t.Context(), s.URL+"/ws"+query, nil)
	if err == nil {
		_ = ws.CloseNow()
	}
	return response.StatusCode
}

func TestTickets(t *testing.T) {
	got := make(chan realtime.Identity, 1)
	rt := realtime.New(&realtime.Options{
		Authenticate: func(*http.Request) (realtime.Identity, error) {
			return realtime.Identity{}, realtime.ErrForbidden
		},
		OnConnect: func(_ context.Context, c *realtime.Conn) error {
			got <- c.Identity()
			return nil
		},
	})
	defer rt.Close()
	id := realtime.Identity{
		UserID: "alice", Device: "phone", Info: json.RawMessage(`{"a":1}`), Data: json.RawMessage(`2`),
		ExpiresAt: time.Now().Add(time.Hour).Round(0).UTC(),
	}
	ticket, err := rt.IssueTicket(id)
	require.NoError(t, err)
	require.Regexp(t, `^[0-9A-Za-z]{30,}$`, ticket)
	require.Equal(t, http.StatusForbidden, openWith(t, rt, ""), "Authenticate decides without a ticket")
	require.Equal(t, http.StatusSwitchingProtocols, openWith(t, rt, "?ticket="+ticket))
	require.Equal(t, id, <-got)
	for _, wrong := range []string{ticket, "", "x", strings.Repeat("é", 40), ticket[:12], "0" + ticket[1:]} {
		require.Equal(t, http.StatusUnauthorized, openWith(t, rt, "?ticket="+url.QueryEscape(wrong)), wrong)
	}

	ticket, err = rt.IssueTicket(realtime.Identity{})
	require.NoError(t, err)
	require.Equal(t, http.StatusSwitchingProtocols, openWith(t, rt, "?ticket="+ticket))
	require.Equal(t, realtime.Identity{}, <-got)

	ticket, err = rt.IssueTicket(id)
	require.NoError(t, err)
	_, err = rt.User("alice").Disconnect(t.Context(), realtime.CloseRefused, "")
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, openWith(t, rt, "?ticket="+ticket), "alice was sent away")
}

func TestTicketsThatAreNotIssued(t *testing.T) {
	rt := realtime.New(nil)
	defer rt.Close()
	for _, test := range []struct {
		id  realtime.Identity
		err error
	}{
		{realtime.Identity{UserID: "all"}, realtime.ErrInvalidName},
		{realtime.Identity{ExpiresAt: time.Now()}, realtime.ErrUnauthenticated},
		{realtime.Identity{Data: 5}, realtime.ErrInvalidMessage},
		{realtime.Identity{Data: json.RawMessage(`{`)}, realtime.ErrInvalidMessage},
		{realtime.Identity{Info: json.RawMessage(`"` + strings.Repeat("x", 1024) + `"`)}, realtime.ErrTooLarge},
	} {
		_, err := rt.IssueTicket(test.id)
		require.ErrorIs(t, err, test.err)
	}
	for range 100 {
		_, err := rt.IssueTicket(realtime.Identity{UserID: "alice"})
		require.NoError(t, err)
	}
	_, err := rt.IssueTicket(realtime.Identity{UserID: "alice"})
	require.ErrorIs(t, err, realtime.ErrOverloaded)
}

// If it cannot be known whether somebody may connect, the client tries again.
func TestAuthenticateUnavailable(t *testing.T) {
	rt := realtime.New(&realtime.Options{Authenticate: func(*http.Request) (realtime.Identity, error) {
		return realtime.Identity{}, fmt.Errorf("no database: %w", realtime.ErrUnavailable)
	}})
	defer rt.Close()
	require.Equal(t, http.StatusServiceUnavailable, openWith(t, rt, ""))
}

func TestBearerToken(t *testing.T) {
	for _, test := range []struct{ header, value, want string }{
		{"Authorization", "Bearer abc.def-_", "abc.def-_"},
		{"Authorization", "bearer  abc", "abc"},
		{"Authorization", "Basic abc", ""},
		{"Authorization", "Bearer", ""},
		{"Sec-WebSocket-Protocol", "realtime.v1, bearer.abc.def", "abc.def"},
		{"Sec-WebSocket-Protocol", "bearer.abc", "abc"},
		{"Sec-WebSocket-Protocol", "realtime.v1", ""},
		{"X", "y", ""},
	} {
		r := httptest.NewRequest(http.MethodGet, "/ws", nil)
		r.Header.Set(test.header, test.value)
		require.Equal(t, test.want, realtime.BearerToken(r), "%+v", test)
	}
}
