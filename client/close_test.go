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

// The goodbye reaches the server, and what was received before is not lost.
func TestCloseSaysGoodbye(t *testing.T) {
	var ends []realtime.CloseCode
	o := realtime.Options{OnDisconnect: func(_ context.Context, _ *realtime.Conn, why *realtime.CloseError) {
		ends = append(ends, why.Code)
	}}
	bubble(t, o, func(t *testing.T, w *world) {
		alice := w.dial("alice")
		_, err := w.rt.Send(t.Context(), realtime.ToAll(), realtime.Message{Content: []byte(`"last"`)})
		require.NoError(t, err)
		synctest.Wait()
		began := time.Now()
		require.NoError(t, alice.Close())
		require.NoError(t, alice.Close())
		require.Zero(t, time.Since(began))
		require.Equal(t, []string{`: "last"`, "end"}, alice.got())
		require.NoError(t, w.rt.Shutdown(t.Context()))
		require.Equal(t, []realtime.CloseCode{1000}, ends)
	})
}

// Close takes a second at most, whatever the server does.
func TestCloseIsBounded(t *testing.T) {
	for name, h := range map[string]http.Handler{
		"a server that reads nothing": play(t, func(*stage, int) { time.Sleep(time.Minute) }),
		"one that goes on talking": play(t, func(s *stage, _ int) {
			for s.ws.Write(context.Background(), 1, []byte(`{"message_type":"chat","sender_id":null}`)) == nil {
				time.Sleep(time.Millisecond)
			}
		}),
		"one that stops inside a message": play(t, func(s *stage, _ int) {
			out, _ := s.ws.Writer(context.Background(), 1)
			_, _ = out.Write(make([]byte, 1<<20))
			time.Sleep(time.Minute)
		}),
	} {
		t.Run(name, func(t *testing.T) {
			served(t, h, func(t *testing.T, w *world) {
				alice := w.dial("alice")
				time.Sleep(time.Second)
				began := time.Now()
				require.NoError(t, alice.Close())
				require.LessOrEqual(t, time.Since(began), time.Second)
				w.cut()
			})
		})
	}
}

// Whoever waits is told, whatever the client is doing.
func TestCloseInEveryState(t *testing.T) {
	quiet := play(t, func(s *stage, n int) {
		for n == 1 && s.hears().Type != "gone" {
		}
	})
	for name, prepare := range map[string]func(w *world){
		"open":    func(*world) {},
		"waiting": func(w *world) { w.setDown(true); w.cut() },
		"connecting": func(w *world) {
			w.serve(bare(t, func(s *stage, _ int) { s.hears() }))
			w.cut()
			time.Sleep(2 * time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			served(t, quiet, func(t *testing.T, w *world) {
				alice := w.dialWith("alice", client.DialOptions{PendingSends: 1})
				prepare(w)
				synctest.Wait()
				waiting := alice.requireAllEnd()
				for range 3 {
					waiting.Go(func() { _ = alice.Close() })
				}
				waiting.Wait()
				require.Equal(t, realtime.ErrClosed, alice.say("lobby", "hi"))
				log := alice.got()
				require.Equal(t, "end", log[len(log)-1])
				phases := alice.phases()
				require.Equal(t, client.Closed, phases[len(phases)-1])
			})
		})
	}
}

// requireAllEnd has two goroutines wait in each method.
func (r *rig) requireAllEnd() *sync.WaitGroup {
	var waiting sync.WaitGroup
	ctx := r.t.Context()
	for range 2 {
		for _, do := range []func() error{
			func() error { return r.say("lobby", "hi") },
			func() error { return r.Join(ctx, "lobby") },
			func() error { return r.Leave(ctx, "lobby") },
			func() error { _, err := r.Call(ctx, "dance", nil); return err },
			func() error { _, err := r.Presence(ctx, "lobby"); return err },
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

// A server that is silent is asked, and then given up.
func TestWatchdog(t *testing.T) {
	var asked []time.Duration
	began := time.Now()
	h := play(t, func(s *stage, n int) {
		if n == 1 {
			for s.hears().Type == "ping" {
				asked = append(asked, time.Since(began))
			}
			return
		}
		for range 3 {
			time.Sleep(20 * time.Second)
			s.chats("", "still here")
		}
		began = time.Now()
		s.hears()
		asked = append(asked, time.Since(began))
		s.says("pong")
		s.lasts()
	})
	served(t, h, func(t *testing.T, w *world) {
		began = time.Now()
		alice := w.dial("alice")
		alice.been()
		time.Sleep(35*time.Second - time.Nanosecond)
		require.Empty(t, alice.been())
		time.Sleep(time.Nanosecond)
		states := alice.been()
		end, ok := states[0].Err.(*realtime.CloseError)
		require.True(t, ok)
		require.Equal(t, realtime.CauseTimeout, end.Cause)
		require.Equal(t, realtime.CloseLost, end.Code)
		require.Equal(t, []time.Duration{25 * time.Second}, asked)
		time.Sleep(time.Second)
		require.Equal(t, []client.Phase{client.Connecting, client.Open}, alice.phases())
		time.Sleep(time.Hour)
		require.Empty(t, alice.been(), "any frame is a sign of life, and pong is one")
		require.Equal(t, []time.Duration{25 * time.Second, 25 * time.Second}, asked)
	})
}

// A ping of the protocol is a sign of life too, and is answered.
func TestProtocolPings(t *testing.T) {
	served(t, play(t, func(s *stage, n int) {
		var pings sync.WaitGroup
		defer pings.Wait()
		pings.Go(func() {
			for s.ws.Ping(context.Background()) == nil {
				time.Sleep(20 * time.Second)
			}
		})
		if a := s.hears(); a.Type != "gone" {
			t.Errorf("asked for %s", a.raw)
		}
	}), func(t *testing.T, w *world) {
		alice := w.dial("alice")
		time.Sleep(time.Hour)
		require.Equal(t, []client.Phase{client.Connecting, client.Open}, alice.phases())
	})
}

// mute is a connection that can be read and not written when it is cut.
type mute struct {
	net.Conn
	cut atomic.Bool
}

// Write is net.Conn.
func (m *mute) Write(p []byte) (int, error) {
	if m.cut.Load() {
		return 0, io.ErrClosedPipe
	}
	return m.Conn.Write(p)
}

// A connection that cannot be written is no good, but what the server says first counts.
func TestWriteFails(t *testing.T) {
	for code, want := range map[websocket.StatusCode]string{0: "gap 1006", 4403: "end 4403"} {
		served(t, play(t, func(s *stage, n int) {
			time.Sleep(500 * time.Millisecond)
			if n == 1 && code != 0 {
				_ = s.ws.Close(code, "")
			}
			s.lasts()
		}), func(t *testing.T, w *world) {
			var line *mute
			w.setWrap(func(c net.Conn) net.Conn { line = &mute{Conn: c}; return line })
			alice := w.dial("alice")
			w.setWrap(nil)
			line.cut.Store(true)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			require.Equal(t, code == 0, alice.Join(ctx, "lobby") == nil)
			require.Equal(t, []string{want}, alice.got())
		})
	}
}

// A server that does not read is given up, also if it goes on talking.
func TestServerDoesNotRead(t *testing.T) {
	served(t, play(t, func(s *stage, n int) {
		for n == 1 && s.ws.Write(context.Background(), 1, []byte("pong")) == nil {
			time.Sleep(time.Second)
		}
		s.lasts()
	}), func(t *testing.T, w *world) {
		alice := w.dial("alice")
		began := time.Now()
		require.NoError(t, alice.say("lobby", "hi"))
		require.InDelta(t, 11, time.Since(began).Seconds(), 1)
	})
}
