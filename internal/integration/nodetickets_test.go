package integration_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/memengine"
)

// A ticket is valid once, at any node. While its node does not answer, clients try again.
func TestNodesTakeTickets(t *testing.T) {
	o := realtime.Options{
		Timeouts: realtime.Timeouts{Resume: 10 * time.Second},
	}
	cluster(t, 3, o, func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		three := ns.beds[2]
		const valid, invalid, later = http.StatusUpgradeRequired, http.StatusUnauthorized, http.StatusServiceUnavailable
		connect := func(at *bed, ticket string) int {
			w := httptest.NewRecorder() // a plain request is authenticated like an upgrade
			at.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://site.example/ws?ticket="+ticket, nil))
			return w.Code
		}
		issue := func(at *bed) string {
			ticket, err := at.IssueTicket(realtime.Identity{UserID: "alice", Data: json.RawMessage(`1`)})
			require.NoError(t, err)
			return ticket
		}
		time.Sleep(time.Minute)
		ticket := issue(one)
		require.Equal(t, valid, connect(two, ticket))
		for _, b := range ns.beds {
			require.Equal(t, invalid, connect(b, ticket), "again")
		}
		require.Equal(t, invalid, connect(two, "0123456789ab"+ticket[12:]), "there is no such node")

		ticket = issue(one)
		_, err := two.User("alice").Disconnect(t.Context(), realtime.CloseRefused, "")
		require.NoError(t, err)
		require.Equal(t, invalid, connect(two, ticket), "alice was sent away")

		ticket = issue(one)
		ns.engine.Cut(ns.buses[0], true)
		require.Equal(t, later, connect(two, ticket))
		ns.engine.Cut(ns.buses[0], false)
		require.Equal(t, valid, connect(two, ticket))

		ticket = issue(three)
		require.NoError(t, three.Close())
		synctest.Wait()
		require.Equal(t, later, connect(two, ticket), "a new ticket is of another node")
		four := ns.add(o)
		synctest.Wait()
		require.Equal(t, later, connect(four, ticket), "it does not know which nodes there have been")
		time.Sleep(30 * time.Second)
		require.Equal(t, invalid, connect(two, ticket))
		require.Equal(t, invalid, connect(four, ticket))
	})
}

// The whole identity goes along.
func TestNodesPassOnIdentities(t *testing.T) {
	engine := memengine.New(1)
	defer engine.Close()
	got := make(chan realtime.Identity, 1)
	discard := slog.New(slog.DiscardHandler)
	one := realtime.New(&realtime.Options{Broker: engine.Broker(), Logger: discard})
	defer one.Close()
	two := realtime.New(&realtime.Options{
		Broker: engine.Broker(), Logger: discard,
		OnConnect: func(_ context.Context, c *realtime.Conn) error {
			got <- c.Identity()
			return nil
		},
	})
	defer two.Close()
	server := httptest.NewServer(two)
	defer server.Close()
	for _, id := range []realtime.Identity{{}, {
		UserID: "alice", Device: "phone", Info: json.RawMessage(`{"a":1}`), Data: json.RawMessage(`2`),
		ExpiresAt: time.Now().Add(time.Hour).Round(0).UTC(),
	}} {
		ticket, err := one.IssueTicket(id)
		require.NoError(t, err)
		ws, _, err := websocket.Dial(t.Context(), server.URL+"?ticket="+ticket, nil)
		require.NoError(t, err)
		_ = ws.CloseNow()
		require.Equal(t, id, <-got)
	}
}
