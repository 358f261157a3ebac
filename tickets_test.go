package realtime_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

func withTicket(name string) *http.Request {
	return httptest.NewRequest(http.MethodGet, "http://site.example/ws?ticket="+name, nil)
}

func TestTickets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tickets realtime.Tickets
		_, err := tickets.Authenticate(withTicket(""))
		require.ErrorIs(t, err, realtime.ErrUnauthenticated)
		first, err := tickets.Issue(realtime.Identity{UserID: "alice"})
		require.NoError(t, err)
		second, err := tickets.Issue(realtime.Identity{UserID: "bob"})
		require.NoError(t, err)
		require.NotEqual(t, first, second)
		require.Regexp(t, `^[A-Z2-7]{26,}$`, first)
		id, err := tickets.Authenticate(withTicket(first))
		require.NoError(t, err)
		require.Equal(t, "alice", id.UserID)
		_, err = tickets.Authenticate(withTicket(first))
		require.ErrorIs(t, err, realtime.ErrUnauthenticated, "it opens one connection")
		time.Sleep(30 * time.Second)
		_, err = tickets.Authenticate(withTicket(second))
		require.ErrorIs(t, err, realtime.ErrUnauthenticated, "it is too old")
	})
}

func TestTicketsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tickets realtime.Tickets
		for range 100_000 {
			_, err := tickets.Issue(realtime.Identity{})
			require.NoError(t, err)
		}
		_, err := tickets.Issue(realtime.Identity{})
		require.ErrorIs(t, err, realtime.ErrOverloaded)
		time.Sleep(30 * time.Second)
		_, err = tickets.Issue(realtime.Identity{})
		require.NoError(t, err)
	})
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
		r := withTicket("")
		r.Header.Set(test.header, test.value)
		require.Equal(t, test.want, realtime.BearerToken(r), "%+v", test)
	}
}
