package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// respondWith returns a handler that answers like a proxy while the server is being replaced.
func respondWith(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// TestReconnectAfterRefusals tests that a client that has had a connection gives up only after an
// error in the form of the server's own errors.
func TestReconnectAfterRefusals(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 405, 431} {
		for body, back := range map[string]bool{
			"404 page not found": true, "": true, `{"message":"no"}`: true, `{"error":7}`: true,
			`{"status":404,"error":"Not Found","path":"/ws"}`: true,
			`{"error":"no"}`: false,
		} {
			withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
				alice := w.dial("alice")
				w.setHandler(respondWith(status, body))
				w.cutAll()
				time.Sleep(5 * time.Minute)
				w.setHandler(w.rt)
				time.Sleep(time.Minute)
				err := alice.sendChat("lobby", "hi")
				if back {
					require.NoError(t, err, "%d %s", status, body)
					return
				}
				no, ok := errors.AsType[*client.DialError](err)
				require.True(t, ok, "%v", err)
				require.Equal(t, status, no.Status)
				require.ErrorIs(t, err, realtime.ErrClosed)
			})
		}
	}
}

// TestReconnectAfterOtherServer tests that a client that has had a connection does not give up when
// it reaches a server that does not speak the protocol.
func TestReconnectAfterOtherServer(t *testing.T) {
	withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		w.setHandler(scriptedRaw(t, func(s *script, _ int) { s.trySend("hello") }))
		w.cutAll()
		time.Sleep(time.Minute)
		w.setHandler(w.rt)
		alice.awaitReconnect()
		require.NoError(t, alice.sendChat("lobby", "hi"))
	})
}

// TestTokenHangs tests that a Token function that does not return fails its attempt, and that the
// next attempt calls it again.
func TestTokenHangs(t *testing.T) {
	var calls atomic.Int32
	var seen []string
	o := realtime.Options{Authenticate: func(r *http.Request) (realtime.Identity, error) {
		seen = append(seen, realtime.BearerToken(r))
		return realtime.Identity{UserID: "alice"}, nil
	}}
	withManager(t, o, func(t *testing.T, w *testEnv) {
		release := make(chan struct{})
		alice := w.dialWith("", client.DialOptions{Token: func(context.Context) (string, error) {
			n := calls.Add(1)
			if n == 2 || n == 3 {
				<-release
			}
			return fmt.Sprint("t", n), nil
		}})
		w.cutAll()
		at := func(n int32) time.Time {
			for end := time.Now().Add(time.Minute); calls.Load() < n && time.Now().Before(end); {
				time.Sleep(time.Second / 10)
			}
			return time.Now()
		}
		second, third := at(2), at(3)
		require.InDelta(t, 31*time.Second, third.Sub(second), float64(2*time.Second))
		close(release) // the second call, whose result is ignored, and the third
		alice.awaitReconnect()
		require.Equal(t, []string{"t1", "t3"}, seen)
	})
}

// TestTokenNeverReturns tests that the number of calls of Token that do not return is limited, and
// that Close waits for them one second at most.
func TestTokenNeverReturns(t *testing.T) {
	withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
		var calls, running atomic.Int32
		release := make(chan struct{})
		alice := w.dialWith("alice", client.DialOptions{Token: func(context.Context) (string, error) {
			if calls.Add(1) > 1 {
				running.Add(1)
				<-release
				running.Add(-1)
			}
			return "", nil
		}})
		w.cutAll()
		time.Sleep(time.Hour)
		require.EqualValues(t, 8, running.Load())
		began := time.Now()
		require.NoError(t, alice.Close())
		require.Equal(t, time.Second, time.Since(began))
		close(release)
		synctest.Wait()
		require.Zero(t, running.Load())
	})
}

// TestRefreshHangs tests that a Token function that does not return does not prevent a later
// connection from refreshing its identity.
func TestRefreshHangs(t *testing.T) {
	var calls atomic.Int32
	var token atomic.Value
	expired := `{"message_type":"error","id":null,"content":{"code":"expired","message":""}}`
	withHandler(t, scripted(t, func(s *script, n int) {
		s.send(expired)
		if n == 1 {
			s.send(expired) // only one call of Token runs at a time
			time.Sleep(time.Second)
			_ = s.ws.Close(4401, "")
			return
		}
		token.Store(s.receive().Token)
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		release := make(chan struct{})
		alice := w.dialWith("alice", client.DialOptions{Token: func(context.Context) (string, error) {
			n := calls.Add(1)
			if n == 2 {
				<-release
			}
			return fmt.Sprint("t", n), nil
		}})
		alice.awaitReconnect()
		synctest.Wait()
		close(release)
		require.EqualValues(t, 4, calls.Load())
		require.Equal(t, "t4", token.Load())
	})
}

// TestTokenUsesTheClient tests that a Token function may call methods of the client.
func TestTokenUsesTheClient(t *testing.T) {
	withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
		var c atomic.Pointer[client.Client]
		var calls atomic.Int32
		errs := make(chan error, 100)
		alice := w.dialWith("alice", client.DialOptions{Token: func(ctx context.Context) (string, error) {
			c := c.Load()
			if c == nil {
				return "", nil
			}
			calls.Add(1)
			c.Reconnect()
			short, cancel := context.WithTimeout(ctx, time.Second/10)
			defer cancel()
			errs <- c.Send(short, realtime.ToRoom("lobby"), realtime.Message{})
			errs <- c.Join(short, "lobby")
			_, err := c.Ping(short)
			errs <- err
			return "", nil
		}})
		c.Store(alice.Client)
		w.cutAll()
		alice.awaitReconnect()
		require.EqualValues(t, 2, calls.Load(), "the attempt was restarted once")
		require.Len(t, errs, 6)
		for range 6 {
			require.Error(t, <-errs, "the call waits for the connection for which the token is needed")
		}
		require.NoError(t, alice.sendChat("lobby", "hi"))
	})
}

func TestTokenClosesTheClient(t *testing.T) {
	withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
		var c atomic.Pointer[client.Client]
		var calls atomic.Int32
		alice := w.dialWith("alice", client.DialOptions{Token: func(context.Context) (string, error) {
			if c := c.Load(); c != nil {
				calls.Add(1)
				return "", c.Close()
			}
			return "", nil
		}})
		c.Store(alice.Client)
		w.cutAll()
		time.Sleep(time.Minute)
		require.Equal(t, []string{"end"}, alice.received())
		require.EqualValues(t, 1, calls.Load())
	})
}

// TestReconnectEndsTheWait tests that Reconnect ends a wait, also one that the server has asked
// for.
func TestReconnectEndsTheWait(t *testing.T) {
	withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		w.setHandler(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
			out.Header().Set("Retry-After", "86400")
			refuseWith(503)(out, r)
		}))
		w.cutAll()
		time.Sleep(time.Minute)
		w.setHandler(w.rt)
		began := time.Now()
		alice.Reconnect()
		alice.awaitReconnect()
		require.Less(t, time.Since(began), time.Second)
		require.Equal(t, time.Hour, alice.longestWait().Truncate(time.Minute))
	})
}

// TestReconnectRestartsAttempt tests that Reconnect restarts an attempt that makes no progress, but
// not twice within a second.
func TestReconnectRestartsAttempt(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for name, test := range map[string]struct {
		h     http.Handler
		token bool // does not return
	}{
		"the token":   {nil, true},
		"the upgrade": {http.HandlerFunc(hang), false},
		"the welcome": {scriptedRaw(t, func(s *script, _ int) { s.receive() }), false},
	} {
		t.Run(name, func(t *testing.T) {
			withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
				var hangs atomic.Bool
				var calls atomic.Int32
				alice := w.dialWith("alice", client.DialOptions{
					Token: func(ctx context.Context) (string, error) {
						calls.Add(1)
						if hangs.Load() {
							<-ctx.Done()
						}
						return "", nil
					},
				})
				hangs.Store(test.token)
				if test.h != nil {
					w.setHandler(test.h)
				}
				w.cutAll()
				time.Sleep(5 * time.Second)
				began := time.Now()
				for range 3 {
					alice.Reconnect()
					synctest.Wait()
				}
				require.EqualValues(t, 3, calls.Load(), "the attempt was restarted once")
				hangs.Store(false)
				w.setHandler(w.rt)
				time.Sleep(time.Second)
				alice.Reconnect()
				alice.awaitReconnect()
				require.Less(t, time.Since(began), 2*time.Second)
				require.EqualValues(t, 4, calls.Load())
			})
		})
	}
}

// TestReconnectProbes tests that Reconnect sends a ping over an open connection, and that further
// calls do not extend the time for the answer.
func TestReconnectProbes(t *testing.T) {
	for _, interval := range []time.Duration{0, -1} {
		withHandler(t, scripted(t, func(s *script, n int) {
			for a := s.receive(); a.Type != "gone"; a = s.receive() {
				if n > 1 {
					s.trySend("pong")
				}
			}
		}), func(t *testing.T, w *testEnv) {
			alice := w.dialWith("alice", client.DialOptions{PingInterval: interval})
			began := time.Now()
			for range 4 {
				alice.Reconnect()
				time.Sleep(time.Second)
			}
			require.Equal(t, 1, w.dialCount())
			alice.awaitReconnect()
			require.Less(t, time.Since(began), 7*time.Second)
			for range 20 {
				alice.Reconnect()
				time.Sleep(time.Second)
			}
			require.Equal(t, 2, w.dialCount(), "the connection lasts")
			require.NoError(t, alice.Close())
			alice.Reconnect()
			time.Sleep(time.Minute)
			require.Equal(t, 2, w.dialCount(), "Reconnect has no effect after the end")
		})
	}
}

// TestReconnectInOnState tests that OnState may call Reconnect.
func TestReconnectInOnState(t *testing.T) {
	withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
		var alice atomic.Pointer[client.Client]
		began := time.Now()
		c, err := client.Dial(t.Context(), "ws://realtime.test/ws?user_id=alice", &client.DialOptions{
			HTTPClient: w.client(),
			OnState: func(s client.State) {
				if c := alice.Load(); c != nil {
					c.Reconnect()
				}
			},
		})
		require.NoError(t, err)
		defer c.Close()
		alice.Store(c)
		for range 3 {
			w.cutAll()
			synctest.Wait()
			_, err := c.Ping(t.Context())
			require.NoError(t, err)
		}
		require.Less(t, time.Since(began), 5*time.Second)
	})
}

// TestReconnectRestartsAttemptAfterProbe tests that a probe does not count as the start of an
// attempt: Reconnect can restart the attempt that follows at once.
func TestReconnectRestartsAttemptAfterProbe(t *testing.T) {
	withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
		attempts := make(chan struct{}, 10)
		alice := w.dialWith("alice", client.DialOptions{Token: func(context.Context) (string, error) {
			attempts <- struct{}{}
			return "", nil
		}})
		<-attempts
		alice.Reconnect()
		w.setHandler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		w.cutAll()
		<-attempts // begins within a second
		alice.Reconnect()
		synctest.Wait()
		require.Len(t, attempts, 1)
	})
}

// TestDialWithoutSubprotocol tests that a server that does not select the subprotocol does not
// speak the protocol, even if it sends nothing.
func TestDialWithoutSubprotocol(t *testing.T) {
	foreign := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			t.Error(err)
			return
		}
		_, _, _ = ws.Read(context.Background())
	})
	withHandler(t, foreign, func(t *testing.T, w *testEnv) {
		_, err := w.tryDial(t.Context(), "alice", client.DialOptions{})
		require.ErrorContains(t, err, "does not speak realtime.v1")
		require.Equal(t, 1, w.dialCount())
	})
}

// TestDialByQuery tests that the welcome decides if the URL also asks for the protocol.
func TestDialByQuery(t *testing.T) {
	quiet := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			t.Error(err)
			return
		}
		(&script{t, ws}).send(fmt.Sprintf(welcomeFormat, 65536, 0))
		_, _, _ = ws.Read(context.Background())
	})
	withHandler(t, quiet, func(t *testing.T, w *testEnv) {
		o := client.DialOptions{HTTPClient: w.client()}
		c, err := client.Dial(t.Context(), "ws://realtime.test/ws?protocol=realtime.v1", &o)
		require.NoError(t, err)
		require.NoError(t, c.Close())
	})
}
