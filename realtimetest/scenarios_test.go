package realtimetest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
	"github.com/realtime-go/realtime/realtimetest"
)

// The tests of this file run a server and its clients through one scenario each.

// TestDeployment replaces a server by another one. The clients reconnect spread over time and join
// their rooms again.
func TestDeployment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := func() *realtime.Manager {
			rt := realtime.New(&realtime.Options{
				Authenticate: realtime.InsecureQueryUser, Authorize: realtime.InsecureAllowAll,
				Limits: realtime.Limits{HandshakeRate: 2},
			})
			t.Cleanup(func() { _ = rt.Close() })
			return rt
		}
		var current atomic.Pointer[realtime.Manager]
		current.Store(open())
		srv := realtimetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			current.Load().ServeHTTP(w, r)
		}))
		const clients = 40 // twice as many as the server admits at once
		all := make([]*realtimetest.Client, clients)
		for i := range all {
			all[i] = srv.Connect("alice")
			all[i].Join("lobby")
			time.Sleep(time.Second)
		}
		old := current.Swap(open())
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, old.Shutdown(ctx))
		time.Sleep(time.Minute)
		for _, c := range all {
			gone, ok := errors.AsType[*realtime.CloseError](c.ExpectGap().Err)
			require.True(t, ok)
			require.Equal(t, realtime.CloseRestart, gone.Code)
		}
		count, err := current.Load().Room("lobby").Count(t.Context())
		require.NoError(t, err)
		require.Equal(t, clients, count.Conns)
		require.Less(t, current.Load().Stats().RefusedLimit, uint64(10), "the clients reconnected at different times")
		all[0].Send(realtime.ToRoom("lobby"), "chat", "we are back")
		for _, c := range all {
			require.Equal(t, "we are back", realtimetest.Expect[string](c, "chat"))
			c.ExpectNone("chat")
		}
	})
}

// TestRestartInMemory restarts a server that keeps history in memory. The clients report that
// messages may be missing, and then receive everything that the new process keeps of rooms and of
// the inbox. This is also true for a client that has received nothing yet, because it cannot know
// what the old process kept.
func TestRestartInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := func() *realtime.Manager {
			rt := realtime.New(&realtime.Options{
				Authenticate: realtime.InsecureQueryUser, Authorize: realtime.InsecureAllowAll,
				History: realtime.Retention{Messages: 100},
				Inbox:   realtime.InboxOptions{Keep: realtime.Retention{Messages: 100}},
			})
			t.Cleanup(func() { _ = rt.Close() })
			return rt
		}
		var current atomic.Pointer[realtime.Manager]
		current.Store(open())
		srv := realtimetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			current.Load().ServeHTTP(w, r)
		}))
		say := func(to realtime.Target, word string) {
			_, err := current.Load().Send(t.Context(), to, realtime.Message{
				Sender: "alice", Content: fmt.Appendf(nil, "%q", word),
			})
			require.NoError(t, err)
		}
		lobby, bobs := realtime.ToRoom("lobby"), realtime.ToUser("bob")
		bob := srv.Connect("bob")
		bob.Join("lobby", "quiet")
		say(lobby, "old")
		say(bobs, "old letter")
		for _, word := range []string{"old", "old letter"} {
			require.Equal(t, word, realtimetest.Expect[string](bob, "chat"))
		}
		bob.DropNetwork()
		require.NoError(t, current.Swap(open()).Close())
		for _, to := range []realtime.Target{lobby, bobs, realtime.ToRoom("quiet")} {
			say(to, "first")
			say(to, "second")
		}
		bob.Reconnect()
		time.Sleep(time.Minute)
		say(lobby, "last")
		said, gaps := map[string][]string{}, map[string]realtime.Reason{}
		for range 7 {
			m := bob.Expect("chat")
			var word string
			require.NoError(t, json.Unmarshal(m.Content, &word))
			said[m.Room] = append(said[m.Room], word)
		}
		for range 3 {
			gap := bob.ExpectGap()
			gaps[gap.Room] = gap.Reason
		}
		require.Equal(t, map[string][]string{
			"lobby": {"first", "second", "last"}, "quiet": {"first", "second"},
			"": {"first", "second"},
		}, said)
		require.Equal(t, map[string]realtime.Reason{
			"lobby": realtime.ReasonEpoch, "quiet": realtime.ReasonEpoch, "": realtime.ReasonEpoch,
		}, gaps)
		bob.ExpectNone("chat")
	})
}

// TestExpiringToken tests that the client sends a new token over the same connection when a token
// expires, as long as it gets one.
func TestExpiringToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		identify := func(token string) (realtime.Identity, error) {
			if token != "good" {
				return realtime.Identity{}, realtime.ErrUnauthenticated
			}
			return realtime.Identity{UserID: "alice", ExpiresAt: time.Now().Add(time.Minute)}, nil
		}
		var token atomic.Value
		token.Store("good")
		srv := realtimetest.New(t, &realtime.Options{
			Authenticate: func(r *http.Request) (realtime.Identity, error) { return identify(realtime.BearerToken(r)) },
			Revalidate: func(_ context.Context, _ *realtime.Conn, token string) (realtime.Identity, error) {
				return identify(token)
			},
			Authorize: realtime.InsecureAllowAll,
		})
		alice := srv.Dial("/", &client.DialOptions{
			Token: func(context.Context) (string, error) { return token.Load().(string), nil },
		})
		alice.Join("lobby")
		time.Sleep(10 * time.Minute)
		alice.Send(realtime.ToRoom("lobby"), "chat", "still here")
		alice.Expect("chat")
		require.EqualValues(t, 1, srv.Manager.Stats().PeakConns)
		require.EqualValues(t, 0, srv.Manager.Stats().Ended.Expired)

		token.Store("bad")
		time.Sleep(2 * time.Minute)
		refused, ok := errors.AsType[*client.DialError](alice.ExpectEnd())
		require.True(t, ok)
		require.Equal(t, http.StatusUnauthorized, refused.Status)
	})
}

// TestDeniedAndReplaced tests that a client whose user is denied for some time can connect
// afterwards, and that a replaced client does not reconnect.
func TestDeniedAndReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := realtimetest.New(t, &realtime.Options{
			Authorize: realtime.InsecureAllowAll, Limits: realtime.Limits{ConnsPerUser: 1}, UserFull: realtime.UserFullReplace,
		})
		first := srv.Connect("alice")
		second := srv.Connect("alice")
		replaced, ok := errors.AsType[*realtime.CloseError](first.ExpectEnd())
		require.True(t, ok)
		require.Equal(t, realtime.CloseReplaced, replaced.Code)

		second.Join("lobby")
		_, err := srv.Manager.Room("lobby").Deny(t.Context(), "alice", time.Minute)
		require.NoError(t, err)
		second.Send(realtime.ToRoom("lobby"), "chat", "anybody?")
		second.ExpectNone("chat")

		_, err = srv.Manager.User("alice").Deny(t.Context(), time.Minute)
		require.NoError(t, err)
		second.ExpectEnd()
		_, err = srv.TryDial("/?user_id=alice", nil)
		require.Error(t, err, "the user is still denied")
		time.Sleep(time.Minute)
		srv.Connect("alice").Join("lobby")
	})
}

// TestCallsBothWays tests a handler that calls its client, which answers while its own call is
// pending. Errors pass with all of their fields.
func TestCallsBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r realtime.Router
		realtime.Handle(&r, "delete", func(ctx context.Context, c *realtime.Conn, file string) (string, error) {
			sure, err := realtime.Call[bool](ctx, c, "confirm", file)
			if no, ok := errors.AsType[*realtime.ClientError](err); ok {
				return "", &realtime.Error{
					Code: "refused", Message: no.Message, RetryAfter: no.RetryAfter, Data: no.Data,
				}
			}
			if !sure || err != nil {
				return "kept", err
			}
			return "deleted", nil
		})
		srv := realtimetest.New(t, &realtime.Options{Authorize: realtime.InsecureAllowAll, OnMessage: r.OnMessage})
		alice := srv.Dial("/?user_id=alice", &client.DialOptions{
			OnCall: func(_ context.Context, in realtime.Inbound) (any, error) {
				if string(in.Message.Content) == `"precious"` {
					return nil, &realtime.Error{
						Code: "no", Message: "never", RetryAfter: time.Hour, Data: json.RawMessage(`[1]`),
					}
				}
				return true, nil
			},
		})
		answer, err := client.Call[string](t.Context(), alice.Client, "delete", "old")
		require.NoError(t, err)
		require.Equal(t, "deleted", answer)
		_, err = client.Call[string](t.Context(), alice.Client, "delete", "precious")
		require.Equal(t, &realtime.Error{
			Code: "refused", Message: "never", RetryAfter: time.Hour, Data: json.RawMessage(`[1]`),
		}, err)
	})
}
