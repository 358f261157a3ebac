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

// instead is what somebody else answers in place of a server that is replaced.
func instead(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// A client that has had a connection stays away only if the server itself says so.
func TestKnownClientComesBack(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 405, 431} {
		for body, back := range map[string]bool{
			"404 page not found": true, "": true, `{"message":"no"}`: true, `{"error":7}`: true,
			`{"status":404,"error":"Not Found","path":"/ws"}`: true,
			`{"error":"no"}`: false,
		} {
			bubble(t, realtime.Options{}, func(t *testing.T, w *world) {
				alice := w.dial("alice")
				w.serve(instead(status, body))
				w.cut()
				time.Sleep(5 * time.Minute)
				w.serve(w.rt)
				time.Sleep(time.Minute)
				err := alice.say("lobby", "hi")
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

// Nor does it stay away from another server that does not speak the protocol.
func TestKnownClientWaitsForItsServer(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, w *world) {
		alice := w.dial("alice")
		w.serve(bare(t, func(s *stage, _ int) { s.tries("hello") }))
		w.cut()
		time.Sleep(time.Minute)
		w.serve(w.rt)
		alice.back()
		require.NoError(t, alice.say("lobby", "hi"))
	})
}

// A Token function that does not return ends its attempt, and is called again by the next one.
func TestTokenHangs(t *testing.T) {
	var calls atomic.Int32
	var seen []string
	o := realtime.Options{Authenticate: func(r *http.Request) (realtime.Identity, error) {
		seen = append(seen, realtime.BearerToken(r))
		return realtime.Identity{UserID: "alice"}, nil
	}}
	bubble(t, o, func(t *testing.T, w *world) {
		release := make(chan struct{})
		alice := w.dialWith("", client.DialOptions{Token: func(context.Context) (string, error) {
			n := calls.Add(1)
			if n == 2 || n == 3 {
				<-release
			}
			return fmt.Sprint("t", n), nil
		}})
		w.cut()
		at := func(n int32) time.Time {
			for end := time.Now().Add(time.Minute); calls.Load() < n && time.Now().Before(end); {
				time.Sleep(time.Second / 10)
			}
			return time.Now()
		}
		second, third := at(2), at(3)
		require.InDelta(t, 31*time.Second, third.Sub(second), float64(2*time.Second))
		close(release) // of the second, which nobody waits for, and of the third
		alice.back()
		require.Equal(t, []string{"t1", "t3"}, seen)
	})
}

// Calls that do not return do not become more and more, and do not keep the client from closing.
func TestTokenHangsForEver(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, w *world) {
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
		w.cut()
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

// A hanging Token function does not keep a later connection from renewing its identity.
func TestRefreshHangs(t *testing.T) {
	var calls atomic.Int32
	var token atomic.Value
	expired := `{"message_type":"error","id":null,"content":{"code":"expired","message":""}}`
	served(t, play(t, func(s *stage, n int) {
		s.says(expired)
		if n == 1 {
			s.says(expired) // once at a time
			time.Sleep(time.Second)
			_ = s.ws.Close(4401, "")
			return
		}
		token.Store(s.hears().Token)
		s.lasts()
	}), func(t *testing.T, w *world) {
		release := make(chan struct{})
		alice := w.dialWith("alice", client.DialOptions{Token: func(context.Context) (string, error) {
			n := calls.Add(1)
			if n == 2 {
				<-release
			}
			return fmt.Sprint("t", n), nil
		}})
		alice.back()
		synctest.Wait()
		close(release)
		require.EqualValues(t, 4, calls.Load())
		require.Equal(t, "t4", token.Load())
	})
}

// A Token function may use the client.
func TestTokenUsesTheClient(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, w *world) {
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
		w.cut()
		alice.back()
		require.EqualValues(t, 2, calls.Load(), "begun anew once")
		require.Len(t, errs, 6)
		for range 6 {
			require.Error(t, <-errs, "it waits for the connection that the token is for")
		}
		require.NoError(t, alice.say("lobby", "hi"))
	})
}

func TestTokenClosesTheClient(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, w *world) {
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
		w.cut()
		time.Sleep(time.Minute)
		require.Equal(t, []string{"end"}, alice.got())
		require.EqualValues(t, 1, calls.Load())
	})
}

// Reconnect ends a wait, also one that the server has asked for.
func TestReconnectEndsTheWait(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, w *world) {
		alice := w.dial("alice")
		w.serve(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
			out.Header().Set("Retry-After", "86400")
			refuse(503)(out, r)
		}))
		w.cut()
		time.Sleep(time.Minute)
		w.serve(w.rt)
		began := time.Now()
		alice.Reconnect()
		alice.back()
		require.Less(t, time.Since(began), time.Second)
		require.Equal(t, time.Hour, alice.longest().Truncate(time.Minute))
	})
}

// Reconnect begins an attempt anew of which nothing comes, and not twice within a second.
func TestReconnectBeginsAnew(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for name, test := range map[string]struct {
		h     http.Handler
		token bool // hangs
	}{
		"the token":   {nil, true},
		"the upgrade": {http.HandlerFunc(hang), false},
		"the welcome": {bare(t, func(s *stage, _ int) { s.hears() }), false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, realtime.Options{}, func(t *testing.T, w *world) {
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
					w.serve(test.h)
				}
				w.cut()
				time.Sleep(5 * time.Second)
				began := time.Now()
				for range 3 {
					alice.Reconnect()
					synctest.Wait()
				}
				require.EqualValues(t, 3, calls.Load(), "one attempt more")
				hangs.Store(false)
				w.serve(w.rt)
				time.Sleep(time.Second)
				alice.Reconnect()
				alice.back()
				require.Less(t, time.Since(began), 2*time.Second)
				require.EqualValues(t, 4, calls.Load())
			})
		})
	}
}

// Of an open connection Reconnect asks for a sign of life, and more of it gives it no more time.
func TestReconnectDoubts(t *testing.T) {
	for _, interval := range []time.Duration{0, -1} {
		served(t, play(t, func(s *stage, n int) {
			for a := s.hears(); a.Type != "gone"; a = s.hears() {
				if n > 1 {
					s.tries("pong")
				}
			}
		}), func(t *testing.T, w *world) {
			alice := w.dialWith("alice", client.DialOptions{PingInterval: interval})
			began := time.Now()
			for range 4 {
				alice.Reconnect()
				time.Sleep(time.Second)
			}
			require.Equal(t, 1, w.dialled())
			alice.back()
			require.Less(t, time.Since(began), 7*time.Second)
			for range 20 {
				alice.Reconnect()
				time.Sleep(time.Second)
			}
			require.Equal(t, 2, w.dialled(), "it lives")
			require.NoError(t, alice.Close())
			alice.Reconnect()
			time.Sleep(time.Minute)
			require.Equal(t, 2, w.dialled(), "after the end there is nothing to do")
		})
	}
}

// OnState may reconnect: it waits for nothing.
func TestOnStateReconnects(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, w *world) {
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
			w.cut()
			synctest.Wait()
			_, err := c.Ping(t.Context())
			require.NoError(t, err)
		}
		require.Less(t, time.Since(began), 5*time.Second)
	})
}

// To doubt a connection begins no attempt: the one that follows can be begun anew at once.
func TestReconnectBeginsAnewAfterADoubt(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, w *world) {
		attempts := make(chan struct{}, 10)
		alice := w.dialWith("alice", client.DialOptions{Token: func(context.Context) (string, error) {
			attempts <- struct{}{}
			return "", nil
		}})
		<-attempts
		alice.Reconnect()
		w.serve(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		w.cut()
		<-attempts // within a second
		alice.Reconnect()
		synctest.Wait()
		require.Len(t, attempts, 1)
	})
}

// A server that has a WebSocket but does not select the subprotocol does not speak it, whether it
// says anything or not.
func TestDialRefusesSilentForeigners(t *testing.T) {
	foreign := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			t.Error(err)
			return
		}
		_, _, _ = ws.Read(context.Background())
	})
	served(t, foreign, func(t *testing.T, w *world) {
		_, err := w.try(t.Context(), "alice", client.DialOptions{})
		require.ErrorContains(t, err, "does not speak realtime.v1")
		require.Equal(t, 1, w.dialled())
	})
}

// Where the URL asks for the protocol too, the welcome tells.
func TestDialByQuery(t *testing.T) {
	quiet := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			t.Error(err)
			return
		}
		(&stage{t, ws}).says(fmt.Sprintf(hello, 65536, 0))
		_, _, _ = ws.Read(context.Background())
	})
	served(t, quiet, func(t *testing.T, w *world) {
		o := client.DialOptions{HTTPClient: w.client()}
		c, err := client.Dial(t.Context(), "ws://realtime.test/ws?protocol=realtime.v1", &o)
		require.NoError(t, err)
		require.NoError(t, c.Close())
	})
}
