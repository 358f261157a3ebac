package client_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// TestCloseHandshake tests that Close sends a close frame, and that messages received before it are
// not lost.
func TestCloseHandshake(t *testing.T) {
	var ends []realtime.CloseCode
	o := realtime.Options{OnDisconnect: func(_ context.Context, _ *realtime.Conn, why *realtime.CloseError) {
		ends = append(ends, why.Code)
	}}
	withManager(t, o, func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		_, err := w.rt.Send(t.Context(), realtime.ToAll(), realtime.Message{Content: []byte(`"last"`)})
		require.NoError(t, err)
		synctest.Wait()
		began := time.Now()
		require.NoError(t, alice.Close())
		require.NoError(t, alice.Close())
		require.Zero(t, time.Since(began))
		require.Equal(t, []string{`: "last"`, "end"}, alice.received())
		require.NoError(t, w.rt.Shutdown(t.Context()))
		require.Equal(t, []realtime.CloseCode{1000}, ends)
	})
}

// TestCloseReturnsInTime tests that Close takes one second at most, whatever the server does.
func TestCloseReturnsInTime(t *testing.T) {
	for name, h := range map[string]http.Handler{
		"the server reads nothing": scripted(t, func(*script, int) { time.Sleep(time.Minute) }),
		"the server keeps sending": scripted(t, func(s *script, _ int) {
			for s.ws.Write(context.Background(), 1, []byte(`{"message_type":"chat","sender_id":null}`)) == nil {
				time.Sleep(time.Millisecond)
			}
		}),
		"the server stops inside a message": scripted(t, func(s *script, _ int) {
			out, _ := s.ws.Writer(context.Background(), 1)
			_, _ = out.Write(make([]byte, 1<<20))
			time.Sleep(time.Minute)
		}),
	} {
		t.Run(name, func(t *testing.T) {
			withHandler(t, h, func(t *testing.T, w *testEnv) {
				alice := w.dial("alice")
				time.Sleep(time.Second)
				began := time.Now()
				require.NoError(t, alice.Close())
				require.LessOrEqual(t, time.Since(began), time.Second)
				w.cutAll()
			})
		})
	}
}

// TestCloseInEveryState tests that all waiting methods return when the client is closed, in every
// phase.
func TestCloseInEveryState(t *testing.T) {
	quiet := scripted(t, func(s *script, n int) {
		for n == 1 && s.receive().Type != "gone" {
		}
	})
	for name, prepare := range map[string]func(w *testEnv){
		"open":    func(*testEnv) {},
		"waiting": func(w *testEnv) { w.setDown(true); w.cutAll() },
		"connecting": func(w *testEnv) {
			w.setHandler(scriptedRaw(t, func(s *script, _ int) { s.receive() }))
			w.cutAll()
			time.Sleep(2 * time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			withHandler(t, quiet, func(t *testing.T, w *testEnv) {
				alice := w.dialWith("alice", client.DialOptions{PendingSends: 1})
				prepare(w)
				synctest.Wait()
				waiting := alice.requireAllReturnClosed()
				for range 3 {
					waiting.Go(func() { _ = alice.Close() })
				}
				waiting.Wait()
				require.Equal(t, realtime.ErrClosed, alice.sendChat("lobby", "hi"))
				log := alice.received()
				require.Equal(t, "end", log[len(log)-1])
				phases := alice.takePhases()
				require.Equal(t, client.Closed, phases[len(phases)-1])
			})
		})
	}
}

// requireAllReturnClosed starts two goroutines for each method. All of them must return
// realtime.ErrClosed.
func (r *testClient) requireAllReturnClosed() *sync.WaitGroup {
	var waiting sync.WaitGroup
	ctx := r.t.Context()
	for range 2 {
		for _, do := range []func() error{
			func() error { return r.sendChat("lobby", "hi") },
			func() error { return r.Join(ctx, "lobby") },
			func() error { return r.Leave(ctx, "lobby") },
			func() error { _, err := client.Call[int](ctx, r.Client, "dance", nil); return err },
			func() error { _, err := r.FetchPresence(ctx, "lobby"); return err },
		} {
			waiting.Go(func() {
				if err := do(); err != realtime.ErrClosed {
					r.t.Errorf("got %v", err)
				}
			})
		}
	}
	synctest.Wait()
	return &waiting
}

// TestWatchdog tests that a client sends a ping to a silent server, and ends the connection if
// there is no answer.
func TestWatchdog(t *testing.T) {
	var asked []time.Duration
	began := time.Now()
	h := scripted(t, func(s *script, n int) {
		if n == 1 {
			for s.receive().Type == "ping" {
				asked = append(asked, time.Since(began))
			}
			return
		}
		for range 3 {
			time.Sleep(20 * time.Second)
			s.sendChat("", "still here")
		}
		began = time.Now()
		s.receive()
		asked = append(asked, time.Since(began))
		s.send("pong")
		s.serveUntilClosed()
	})
	withHandler(t, h, func(t *testing.T, w *testEnv) {
		began = time.Now()
		alice := w.dial("alice")
		alice.takeStates()
		time.Sleep(35*time.Second - time.Nanosecond)
		require.Empty(t, alice.takeStates())
		time.Sleep(time.Nanosecond)
		states := alice.takeStates()
		end, ok := states[0].Err.(*realtime.CloseError)
		require.True(t, ok)
		require.Equal(t, realtime.CauseTimeout, end.Cause)
		require.Equal(t, realtime.CloseLost, end.Code)
		require.Equal(t, []time.Duration{25 * time.Second}, asked)
		time.Sleep(time.Second)
		require.Equal(t, []client.Phase{client.Connecting, client.Open}, alice.takePhases())
		time.Sleep(time.Hour)
		require.Empty(t, alice.takeStates(), "any frame is a sign of life, also a pong")
		require.Equal(t, []time.Duration{25 * time.Second, 25 * time.Second}, asked)
	})
}

// TestWebSocketPings tests that a WebSocket ping counts as a sign of life, and is answered.
func TestWebSocketPings(t *testing.T) {
	withHandler(t, scripted(t, func(s *script, n int) {
		var pings sync.WaitGroup
		defer pings.Wait()
		pings.Go(func() {
			for s.ws.Ping(context.Background()) == nil {
				time.Sleep(20 * time.Second)
			}
		})
		if a := s.receive(); a.Type != "gone" {
			t.Errorf("unexpected request %s", a.raw)
		}
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		time.Sleep(time.Hour)
		require.Equal(t, []client.Phase{client.Connecting, client.Open}, alice.takePhases())
	})
}

// failingConn is a connection whose writes fail once writesFail is set.
type failingConn struct {
	net.Conn
	writesFail atomic.Bool
}

// Write implements net.Conn.
func (m *failingConn) Write(p []byte) (int, error) {
	if m.writesFail.Load() {
		return 0, io.ErrClosedPipe
	}
	return m.Conn.Write(p)
}

// TestWriteFails tests that a failed write ends the connection, and that a close frame of the
// server takes precedence as the cause.
func TestWriteFails(t *testing.T) {
	for code, want := range map[websocket.StatusCode]string{0: "gap 1006", 4403: "end 4403"} {
		withHandler(t, scripted(t, func(s *script, n int) {
			time.Sleep(500 * time.Millisecond)
			if n == 1 && code != 0 {
				_ = s.ws.Close(code, "")
			}
			s.serveUntilClosed()
		}), func(t *testing.T, w *testEnv) {
			var line *failingConn
			w.wrapConns(func(c net.Conn) net.Conn { line = &failingConn{Conn: c}; return line })
			alice := w.dial("alice")
			w.wrapConns(nil)
			line.writesFail.Store(true)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			require.Equal(t, code == 0, alice.Join(ctx, "lobby") == nil)
			require.Equal(t, []string{want}, alice.received())
		})
	}
}

// TestServerDoesNotRead tests that a connection ends if the server does not read, even if the
// server keeps sending.
func TestServerDoesNotRead(t *testing.T) {
	withHandler(t, scripted(t, func(s *script, n int) {
		for n == 1 && s.ws.Write(context.Background(), 1, []byte("pong")) == nil {
			time.Sleep(time.Second)
		}
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		began := time.Now()
		require.NoError(t, alice.sendChat("lobby", "hi"))
		require.InDelta(t, 11, time.Since(began).Seconds(), 1)
	})
}
