package realtime

import (
	"context"
	"net/http/httptest"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// A defect makes a fan-out panic. Those who have the message in their queues get it, and get the
// following ones.
func TestDeliveryThatPanics(t *testing.T) {
	var rt *Manager
	rt = New(&Options{
		Authenticate: InsecureQueryUser,
		OnConnect: func(ctx context.Context, c *Conn) error {
			_, err := rt.Join(ctx, c.ID(), "r")
			return err
		},
	})
	server := httptest.NewServer(rt)
	defer server.Close()
	defer func() { require.NoError(t, rt.Close()) }()
	ws, _, err := websocket.Dial(t.Context(), server.URL+"?user_id=ann", nil)
	require.NoError(t, err)
	defer func() { _ = ws.CloseNow() }()
	_, _, err = ws.Read(t.Context()) // the welcome
	require.NoError(t, err)

	send := func(text string) {
		_, err := rt.Send(t.Context(), ToRoom("r"), Chat("", text))
		require.NoError(t, err)
	}
	r := rt.rooms.lock("r")
	r.members = append(r.members, member{})
	r.mu.Unlock()
	require.Panics(t, func() { send("first") })
	r.members = r.members[:1]
	r.mu.Unlock() // which nobody else does
	send("second")
	for _, want := range []string{"first", "second"} {
		_, frame, err := ws.Read(t.Context())
		require.NoError(t, err)
		require.Contains(t, string(frame), want)
	}
}
