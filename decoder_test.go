package realtime

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// pinging returns the server of m, and clients of it that are read.
func pinging(t *testing.T, m *Manager, n int) []*websocket.Conn {
	s := httptest.NewServer(m)
	t.Cleanup(func() {
		_ = m.Close()
		s.Close()
	})
	clients := make([]*websocket.Conn, n)
	for i := range clients {
		ws, _, err := websocket.Dial(t.Context(), s.URL, nil)
		require.NoError(t, err)
		t.Cleanup(func() { _ = ws.CloseNow() })
		_, p, err := ws.Read(t.Context())
		require.NoError(t, err)
		require.Contains(t, string(p), "welcome")
		clients[i] = ws
	}
	return clients
}

// ping asks and waits for the answer.
func ping(t *testing.T, ws *websocket.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, ws.Write(ctx, websocket.MessageText, []byte("ping")))
	_, p, err := ws.Read(ctx)
	require.NoError(t, err)
	require.Equal(t, "pong", string(p))
}

func (ds *decoders) count() int {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	return len(ds.spare)
}

// A connection that only answers pings has a decoder for just as long.
func TestDecodersAreLent(t *testing.T) {
	if !quietIsParked {
		t.Skip("quiet connections keep their goroutine and their decoder here")
	}
	m := New(&Options{Logger: slog.New(slog.DiscardHandler)})
	clients := pinging(t, m, 20)
	for i, ws := range clients {
		ctx := ws.CloseRead(t.Context())
		require.NoError(t, ws.Ping(ctx))
		require.Eventually(t, func() bool { return m.sockets.decoders.count() == 1 },
			10*time.Second, time.Millisecond, "client %d has given it back", i)
	}
}

// A decoder whose own timer has closed it while nobody had it, or before anything was read,
// is nobody's fault.
func TestWornDecoder(t *testing.T) {
	m := New(&Options{Logger: slog.New(slog.DiscardHandler)})
	clients := pinging(t, m, 3)
	for range 4 {
		d, _ := newDecoder(nil)
		require.NoError(t, d.ws.CloseNow())
		m.sockets.decoders.giveBack(d)
	}
	for i, ws := range clients {
		ping(t, ws)
		ping(t, ws)
		require.NoError(t, ws.Close(4000+websocket.StatusCode(i), fmt.Sprint(i)))
	}
	require.NoError(t, m.Close())
	require.EqualValues(t, 3, m.Stats().Ended.Client)
}

func TestSpareDecodersAreBounded(t *testing.T) {
	var ds decoders
	for range spareDecoders + 10 {
		d, agreed := newDecoder(nil)
		require.Empty(t, agreed)
		ds.giveBack(d)
	}
	require.Equal(t, spareDecoders, ds.count())
	ds.close()
	require.Zero(t, ds.count())
}
