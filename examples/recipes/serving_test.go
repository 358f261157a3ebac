package recipes

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

func TestTenants(t *testing.T) {
	logins := sessions{"abc": "alice", "def": "bob"}
	staff := map[[2]string]bool{{"acme", "alice"}: true, {"beta", "alice"}: true, {"beta", "bob"}: true}
	r := chi.NewRouter()
	rt := withTenants(logins, func(tenant, user string) bool { return staff[[2]string{tenant, user}] }, r)
	defer rt.Close()
	srv := httptest.NewServer(r)
	defer srv.Close()
	dial := func(tenant, cookie string) (*client.Client, error) {
		header := http.Header{"Cookie": {"session=" + cookie}}
		return client.Dial(t.Context(), srv.URL+"/ws/"+tenant, &client.DialOptions{Header: header})
	}
	alice, err := dial("acme", "abc")
	require.NoError(t, err)
	defer alice.Close()
	_, err = dial("acme", "def")
	require.ErrorIs(t, err, realtime.ErrForbidden)
	bob, err := dial("beta", "def")
	require.NoError(t, err)
	defer bob.Close()

	members, err := rt.Room("acme/news").Users(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"alice"}, members)
	hi := realtime.Message{Content: []byte(`"hi"`)}
	require.NoError(t, alice.Join(t.Context(), "acme/dev"))
	require.NoError(t, alice.Send(t.Context(), realtime.ToRoom("acme/dev"), hi))
	for _, err := range []error{
		alice.Join(t.Context(), "beta/news"),
		bob.Send(t.Context(), realtime.ToRoom("acme/dev"), hi),
		bob.Send(t.Context(), realtime.ToUser("alice"), hi),
		bob.Send(t.Context(), realtime.ToAll(), hi),
	} {
		refused, ok := errors.AsType[*realtime.Error](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, "forbidden", refused.Code)
	}
}

func TestServeUntil(t *testing.T) {
	rt := realtime.New(&realtime.Options{Authenticate: realtime.InsecureQueryUser})
	srv := realtime.NewServer(freeAddr(t), rt)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serveUntil(ctx, rt, srv) }()
	waits := make(chan error, 1)
	c, err := client.Dial(t.Context(), "ws://"+srv.Addr+"/?user_id=alice", &client.DialOptions{
		OnState: func(s client.State) {
			if closed, ok := errors.AsType[*realtime.CloseError](s.Err); ok && s.Phase == client.Waiting {
				select {
				case waits <- closed:
				default:
				}
			}
		},
	})
	require.NoError(t, err)
	defer c.Close()
	stop()
	require.NoError(t, <-ended)
	closed, _ := errors.AsType[*realtime.CloseError](<-waits)
	require.Equal(t, realtime.CloseRestart, closed.Code)

	taken := realtime.NewServer("not an address", nil)
	require.Error(t, serveUntil(t.Context(), realtime.New(nil), taken))
}
