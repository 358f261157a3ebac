package realtimetest_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
	"github.com/realtime-go/realtime/realtimetest"
)

// runInBubbleAndRealTime runs a test in a synctest bubble and again in real time.
func runInBubbleAndRealTime(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	t.Run("bubble", func(t *testing.T) { synctest.Test(t, test) })
	t.Run("clock", test)
}

func TestChat(t *testing.T) {
	runInBubbleAndRealTime(t, func(t *testing.T) {
		srv := realtimetest.New(t, nil)
		alice, bob := srv.Connect("alice"), srv.Connect("bob")
		alice.Join("lobby")
		bob.Join("lobby", "attic")

		alice.Send(realtime.ToRoom("lobby"), "chat", "hi")
		require.Equal(t, "hi", realtimetest.Expect[string](bob, "chat"))
		require.Equal(t, "alice", alice.Expect("chat").Sender)
		alice.Send(realtime.ToRoom("attic"), "chat", "up here")
		alice.ExpectNone("chat")
		require.Equal(t, "attic", bob.Expect("chat").Room)
	})
}

// TestBytesAndServer tests messages with bytes, and messages to the server.
func TestBytesAndServer(t *testing.T) {
	runInBubbleAndRealTime(t, func(t *testing.T) {
		var r realtime.Router
		var srv *realtimetest.Server
		got := make(chan []byte, 2)
		realtime.On(&r, "input", func(ctx context.Context, c *realtime.Conn, in realtime.Inbound, p []byte) error {
			got <- p
			_, err := srv.Manager.Send(ctx, realtime.ToConn(c.ID()), realtime.Message{Type: "echo", Binary: p})
			return err
		})
		srv = realtimetest.New(t, &realtime.Options{Authorize: realtime.InsecureAllowAll, OnMessage: r.OnMessage})
		alice := srv.Connect("alice")
		for _, p := range [][]byte{{0, 0xff}, {}} {
			alice.Send(realtime.Target{}, "input", p)
			require.Len(t, got, 1, "the handler has returned")
			require.Equal(t, p, <-got)
			require.Equal(t, p, realtimetest.Expect[[]byte](alice, "echo"))
		}
	})
}

// TestDropNetwork restores the network before either side has detected the loss. Messages from the
// interruption are lost, rooms are kept, and the client reports a gap.
func TestDropNetwork(t *testing.T) {
	runInBubbleAndRealTime(t, func(t *testing.T) {
		srv := realtimetest.New(t, nil)
		alice, bob := srv.Connect("alice"), srv.Connect("bob")
		alice.Join("lobby")
		bob.Join("lobby")
		bob.DropNetwork()
		alice.Send(realtime.ToRoom("lobby"), "chat", "lost")
		bob.Reconnect()
		gap := bob.ExpectGap()
		require.Error(t, gap.Err)
		bob.ExpectNone("chat")
		alice.Send(realtime.ToRoom("lobby"), "chat", "found")
		require.Equal(t, "found", realtimetest.Expect[string](bob, "chat"))
	})
}

// TestNetworkLossIsDetected tests that both sides detect that the network is down, and that no
// client can connect meanwhile.
func TestNetworkLossIsDetected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := realtimetest.New(t, nil)
		bob := srv.Connect("bob")
		bob.DropNetwork()
		time.Sleep(time.Minute)
		require.Zero(t, srv.Manager.Stats().Conns)
		require.EqualValues(t, 1, srv.Manager.Stats().Ended.Timeout, "%+v", srv.Manager.Stats().Ended)
		bob.Reconnect()
		require.Equal(t, 1, srv.Manager.Stats().Conns)
	})
}

func TestStall(t *testing.T) {
	runInBubbleAndRealTime(t, func(t *testing.T) {
		srv := realtimetest.New(t, &realtime.Options{Authorize: realtime.InsecureAllowAll, Limits: realtime.Limits{QueueMessages: 16}})
		bob := srv.Connect("bob")
		bob.Stall()
		for range 4 { // fit into the socket and the queue
			_, err := srv.Manager.Send(t.Context(), realtime.ToUser("bob"), realtime.Message{Binary: make([]byte, 32<<10)})
			require.NoError(t, err)
		}
		bob.Resume()
		for range 4 {
			require.Len(t, bob.Expect("chat").Binary, 32<<10)
		}
		bob.Stall()
		for range 32 {
			_, err := srv.Manager.Send(t.Context(), realtime.ToUser("bob"), realtime.Message{Binary: make([]byte, 32<<10)})
			require.NoError(t, err)
		}
		bob.Resume()
		slow, ok := errors.AsType[*realtime.CloseError](bob.ExpectGap().Err)
		require.True(t, ok)
		require.Equal(t, realtime.CloseSlow, slow.Code)
	})
}

func TestExpectEnd(t *testing.T) {
	runInBubbleAndRealTime(t, func(t *testing.T) {
		srv := realtimetest.New(t, nil)
		bob := srv.Connect("bob")
		_, err := srv.Manager.User("bob").Disconnect(t.Context(), 4999, "bye")
		require.NoError(t, err)
		said, ok := errors.AsType[*realtime.CloseError](bob.ExpectEnd())
		require.True(t, ok)
		require.Equal(t, "bye", said.Reason)
		bob.ExpectNone("chat")
	})
}

func TestExpectRoomLost(t *testing.T) {
	runInBubbleAndRealTime(t, func(t *testing.T) {
		srv := realtimetest.New(t, nil)
		bob := srv.Connect("bob")
		bob.Join("lobby")
		_, err := srv.Manager.Room("lobby").Remove(t.Context(), "bob")
		require.NoError(t, err)
		bob.Send(realtime.ToUser("bob"), "news", 1)
		bob.Expect("news")
		require.Equal(t, "lobby", bob.ExpectRoomLost().Room)
	})
}

func TestExpectNoneAfterEnd(t *testing.T) {
	runInBubbleAndRealTime(t, func(t *testing.T) {
		srv := realtimetest.New(t, nil)
		bob := srv.Connect("bob")
		_, err := srv.Manager.User("bob").Disconnect(t.Context(), 4999, "bye")
		require.NoError(t, err)
		bob.ExpectNone("chat")
		bob.ExpectEnd()
	})
}

func TestServeAnyHandler(t *testing.T) {
	runInBubbleAndRealTime(t, func(t *testing.T) {
		rt := realtime.New(&realtime.Options{
			Authenticate: func(r *http.Request) (realtime.Identity, error) {
				if r.Header.Get("X-User") == "" {
					return realtime.Identity{}, realtime.ErrUnauthenticated
				}
				return realtime.Identity{UserID: r.Header.Get("X-User")}, nil
			},
			Authorize: realtime.InsecureAllowAll,
		})
		t.Cleanup(func() { _ = rt.Close() })
		mux := http.NewServeMux()
		mux.Handle("/app/ws", rt)
		srv := realtimetest.Serve(t, mux)
		alice := srv.Dial("/app/ws", &client.DialOptions{Header: http.Header{"X-User": {"alice"}}})
		alice.Send(realtime.ToUser("alice"), "chat", 1)
		require.Equal(t, "alice", alice.Expect("chat").Sender)
		_, err := srv.TryDial("/app/ws", nil)
		refused, ok := errors.AsType[*client.DialError](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, http.StatusUnauthorized, refused.Status)
	})
}

// recorder is a testing.TB that records how a test failed.
type recorder struct {
	testing.TB
	failure string
}

func (j *recorder) Helper() {}

func (j *recorder) Fatalf(format string, args ...any) {
	j.failure = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// failureOf returns the failure of a test.
func failureOf(t *testing.T, test func(t testing.TB)) string {
	t.Helper()
	j := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		test(j)
	}()
	<-done
	require.NotEmpty(t, j.failure, "the test did not fail")
	return j.failure
}

func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, test := range map[string]struct {
			do   func(srv *realtimetest.Server, bob *realtimetest.Client)
			want string
		}{
			"no message": {
				func(_ *realtimetest.Server, bob *realtimetest.Client) { bob.Expect("chat") },
				`no message of type "chat"; received: nothing`,
			},
			"another message": {
				func(srv *realtimetest.Server, bob *realtimetest.Client) {
					bob.Send(realtime.ToUser("bob"), "news", 7)
					bob.Expect("chat")
				},
				`no message of type "chat"; received: news 7`,
			},
			"the client ended": {
				func(srv *realtimetest.Server, bob *realtimetest.Client) {
					_, _ = srv.Manager.User("bob").Disconnect(context.Background(), 4999, "bye")
					bob.Expect("chat")
				},
				`received: the end: realtime: connection ended: server, code 4999, "bye"`,
			},
			"unexpected message": {
				func(srv *realtimetest.Server, bob *realtimetest.Client) {
					bob.Send(realtime.ToUser("bob"), "chat", "x")
					bob.ExpectNone("chat")
				},
				`unexpected message: chat "x"`,
			},
			"no gap": {
				func(_ *realtimetest.Server, bob *realtimetest.Client) { bob.ExpectGap() },
				"no gap",
			},
			"no end": {
				func(_ *realtimetest.Server, bob *realtimetest.Client) { bob.ExpectEnd() },
				"the client has not ended",
			},
			"other content": {
				func(_ *realtimetest.Server, bob *realtimetest.Client) {
					bob.Send(realtime.ToUser("bob"), "chat", "x")
					realtimetest.Expect[int](bob, "chat")
				},
				`content of "chat"`,
			},
			"refused room": {
				func(_ *realtimetest.Server, bob *realtimetest.Client) { bob.Join("secret") },
				`join "secret": realtime: forbidden`,
			},
			"refused connection": {
				func(srv *realtimetest.Server, _ *realtimetest.Client) { srv.Connect("all") },
				"400",
			},
		} {
			verdict := failureOf(t, func(t testing.TB) {
				srv := realtimetest.New(t, &realtime.Options{
					Authorize: func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
						if a.Room == "secret" {
							return realtime.ErrForbidden
						}
						return nil
					},
				})
				test.do(srv, srv.Connect("bob"))
			})
			require.Contains(t, verdict, test.want, name)
		}
	})
}
