package realtime_test

import (
	"net/http"
	"net/http/httptest"
	"strconv"
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
		require.ErrorIs(t, err, realtime.ErrUnauthenticated, "a ticket opens one connection")
		time.Sleep(30 * time.Second)
		_, err = tickets.Authenticate(withTicket(second))
		require.ErrorIs(t, err, realtime.ErrUnauthenticated, "the ticket has expired")
	})
}

func TestTicketsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tickets realtime.Tickets
		issue := func(user string, n int) (names []string, err error) {
			for range n {
				name, err := tickets.Issue(realtime.Identity{UserID: user})
				if err != nil {
					return names, err
				}
				names = append(names, name)
			}
			return names, nil
		}
		names, err := issue("mallory", 1000)
		require.ErrorIs(t, err, realtime.ErrOverloaded, "tickets of one user are bounded")
		require.Len(t, names, 100)
		_, err = tickets.Authenticate(withTicket(names[50]))
		require.NoError(t, err)
		_, err = issue("mallory", 1)
		require.NoError(t, err, "a used ticket does not count")
		_, err = issue("mallory", 1)
		require.ErrorIs(t, err, realtime.ErrOverloaded)

		names, err = issue("", 100_000)
		require.ErrorIs(t, err, realtime.ErrOverloaded, "anonymous tickets are bounded")
		require.Len(t, names, 50_000)
		_, err = issue("alice", 1)
		require.NoError(t, err)
		for i := range 600 {
			if _, err = issue(strconv.Itoa(i), 100); err != nil {
				break
			}
		}
		require.ErrorIs(t, err, realtime.ErrOverloaded)
		_, err = issue("bob", 1)
		require.ErrorIs(t, err, realtime.ErrOverloaded, "all tickets are bounded")

		time.Sleep(30 * time.Second)
		_, err = issue("bob", 100)
		require.NoError(t, err)
		_, err = issue("mallory", 100)
		require.NoError(t, err)
	})
}

// The cost of Issue does not depend on how many tickets exist or have expired.
func TestIssueCostIsConstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tickets realtime.Tickets
		for range 50_000 {
			_, err := tickets.Issue(realtime.Identity{})
			require.NoError(t, err)
		}
		refused := testing.AllocsPerRun(100, func() { _, _ = tickets.Issue(realtime.Identity{}) })
		require.LessOrEqual(t, refused, 3.0, "Issue copies nothing")
		time.Sleep(30 * time.Second)
		_, err := tickets.Issue(realtime.Identity{})
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
