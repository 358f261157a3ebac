package client_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// Each attempt to connect has a ticket of its own, and all have the same presence key.
func TestTicket(t *testing.T) {
	rt := realtime.New(&realtime.Options{
		Authorize: realtime.InsecureAllowAll, Show: realtime.ShowMembers,
	})
	defer rt.Close()
	queries := make(chan map[string][]string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		queries <- r.URL.Query()
		rt.ServeHTTP(w, r)
	}))
	defer server.Close()
	opened := make(chan bool, 10)
	c, err := client.Dial(t.Context(), server.URL+"/ws?x=1#y", &client.DialOptions{
		Ticket: func(context.Context) (string, error) {
			return rt.IssueTicket(realtime.Identity{UserID: "alice"})
		},
		OnState: func(s client.State) {
			if s.Phase == client.Open {
				opened <- true
			}
		},
	})
	require.NoError(t, err)
	defer c.Close()
	<-opened
	for conn := range rt.User("alice").LocalConns() {
		require.NoError(t, conn.Close(realtime.CloseLater, ""))
	}
	<-opened
	first, second := <-queries, <-queries
	require.NotEqual(t, first["ticket"], second["ticket"])
	require.Len(t, second["ticket"], 1)
	require.Equal(t, []string{"1"}, second["x"])
	require.NotEmpty(t, first["presence_key"])
	require.Equal(t, first["presence_key"], second["presence_key"])

	why := errors.New("no session")
	_, err = client.Dial(t.Context(), server.URL+"/ws?presence_key=mine", &client.DialOptions{
		Ticket: func(context.Context) (string, error) {
			return "", errors.Join(why, realtime.ErrUnauthenticated)
		},
	})
	require.ErrorIs(t, err, why)
}
