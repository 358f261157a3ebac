package client_test

import (
	"context"
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
)

// refuseWith returns a handler that answers all requests with this status and a reason.
func refuseWith(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"error":"because of %d"}`, status)
	}
}

func TestDialRefused(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 405, 431} {
		withHandler(t, refuseWith(status), func(t *testing.T, w *testEnv) {
			began := time.Now()
			_, err := w.tryDial(t.Context(), "alice", client.DialOptions{})
			no, ok := errors.AsType[*client.DialError](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, status, no.Status)
			require.Equal(t, fmt.Sprintf("because of %d", status), no.Message)
			require.ErrorContains(t, err, no.Message)
			require.Equal(t, status == 401, errors.Is(err, realtime.ErrUnauthenticated))
			require.Equal(t, status == 403, errors.Is(err, realtime.ErrForbidden))
			require.Zero(t, time.Since(began), "Dial returns at once")
			require.Equal(t, 1, w.dialCount())
		})
	}
}

func TestDialRetries(t *testing.T) {
	for _, status := range []int{200, 302, 426, 429, 500, 502, 503} {
		withHandler(t, refuseWith(status), func(t *testing.T, w *testEnv) {
			rt := realtime.New(&realtime.Options{})
			defer rt.Close()
			time.AfterFunc(time.Minute, func() { w.setHandler(rt) })
			began := time.Now()
			alice, err := w.tryDial(t.Context(), "alice", client.DialOptions{})
			require.NoError(t, err)
			require.Greater(t, time.Since(began), time.Minute)
			require.NoError(t, alice.Close())
		})
	}
}

// refuseOnce returns a handler that refuses the first request with this status, and all others with
// 401.
func refuseOnce(status int, retryAfter func() string) http.HandlerFunc {
	var n atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) > 1 {
			refuseWith(401)(w, r)
			return
		}
		said := retryAfter()
		w.Header().Set("Retry-After", said)
		if at, err := http.ParseTime(said); err == nil && time.Until(at) > 23*time.Hour {
			w.Header().Set("Date", time.Now().Add(24*time.Hour).UTC().Format(http.TimeFormat))
		}
		refuseWith(status)(w, r)
	}
}

// TestRetryAfter tests that the wait is as long as the server asks for, and not much longer.
func TestRetryAfter(t *testing.T) {
	const day = 24 * time.Hour
	says := func(s string) func() string { return func() string { return s } }
	in := func(d time.Duration) func() string {
		return func() string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	}
	for _, test := range []struct {
		says func() string
		want time.Duration // 0: Retry-After has no effect
	}{
		{says("7"), 7 * time.Second},
		{says("60"), time.Minute},
		{says("999999"), time.Hour},
		{in(time.Minute), time.Minute},
		{in(2 * time.Hour), time.Hour},
		{in(-time.Hour), 0},
		{in(day + time.Minute), time.Minute}, // the clock of the server is a day ahead
		{in(day - time.Minute), 0},
		{says(""), 0},
		{says("-1"), 0},
		{says("soon"), 0},
		{says("9999999999999999999999"), time.Hour},
		{says("-9999999999999999999999"), 0},
		{says("-9223372037"), 0}, // overflows as a number of nanoseconds
	} {
		statuses := []int{429, 503}
		if test.want > 0 {
			statuses = append(statuses, 403) // denied for some time
		}
		for _, status := range statuses {
			withHandler(t, refuseOnce(status, test.says), func(t *testing.T, w *testEnv) {
				began := time.Now()
				_, err := w.tryDial(t.Context(), "alice", client.DialOptions{})
				require.ErrorIs(t, err, realtime.ErrUnauthenticated)
				if test.want == 0 {
					require.Less(t, time.Since(began), time.Second)
				} else {
					require.GreaterOrEqual(t, time.Since(began), test.want)
					require.Less(t, time.Since(began), test.want+time.Second, "a random part below 1 s")
				}
			})
		}
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	why := errors.New("enough")
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for name, test := range map[string]struct {
		h     http.Handler
		down  bool
		token func(context.Context) (string, error)
		last  string // error of the last attempt; empty if the first attempt did not end
	}{
		"between attempts": {refuseWith(500), false, nil, "because of 500"},
		"no network":       {refuseWith(500), true, nil, errDown.Error()},
		"no answer":        {http.HandlerFunc(hang), false, nil, ""},
		"no welcome":       {scriptedRaw(t, func(s *script, _ int) { s.receive() }), false, nil, ""},
		"during Token": {refuseWith(500), false, func(ctx context.Context) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			withHandler(t, test.h, func(t *testing.T, w *testEnv) {
				w.setDown(test.down)
				ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, why)
				defer cancel()
				began := time.Now()
				_, err := w.tryDial(ctx, "alice", client.DialOptions{Token: test.token})
				require.Equal(t, 10*time.Second, time.Since(began))
				require.ErrorIs(t, err, why)
				require.ErrorContains(t, err, test.last)
				require.NotContains(t, err.Error(), "user_id", "the URL may contain a ticket")
				_, failed := errors.AsType[*client.DialError](err)
				require.Equal(t, test.last != "", failed)
			})
		})
	}
}

// TestAttemptTimesOut tests that an attempt without an answer ends after 30 s.
func TestAttemptTimesOut(t *testing.T) {
	withHandler(t, scriptedRaw(t, func(s *script, n int) {
		if n > 1 {
			s.send(fmt.Sprintf(welcomeFormat, 65536, 0))
		}
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		began := time.Now()
		w.dial("alice")
		require.GreaterOrEqual(t, time.Since(began), 30*time.Second)
		require.Less(t, time.Since(began), 31*time.Second)
	})
}

func TestDialOtherServers(t *testing.T) {
	for name, frame := range map[string]string{
		"a plain server":   `{"message_type":"welcome","sender_id":null,"content":{"connection_id":"conn_1"},"timestamp":1}`,
		"other text":       `hello`,
		"an empty message": ``,
	} {
		gone := false
		withHandler(t, scriptedRaw(t, func(s *script, _ int) {
			s.send(frame)
			s.receive()
			gone = true
		}), func(t *testing.T, w *testEnv) {
			_, err := w.tryDial(t.Context(), "alice", client.DialOptions{})
			require.ErrorContains(t, err, "does not speak realtime.v1", name)
			require.Equal(t, 1, w.dialCount())
			synctest.Wait()
			require.True(t, gone, "the connection was closed")
		})
	}
	for _, url := range []string{"ftp://secret/", "secret", "", ":secret", "wss://\x7f.secret"} {
		_, err := client.Dial(t.Context(), url, nil)
		require.Error(t, err, url)
		require.NotContains(t, err.Error(), "secret")
	}
}

// TestDialClosed tests that Dial returns the error of a server that closes the connection after the
// handshake.
func TestDialClosed(t *testing.T) {
	o := realtime.Options{OnConnect: func(context.Context, *realtime.Conn) error {
		return &realtime.CloseError{Code: 4500, Reason: "banned"}
	}}
	withManager(t, o, func(t *testing.T, w *testEnv) {
		r, err := w.tryDial(t.Context(), "alice", client.DialOptions{})
		end, ok := errors.AsType[*realtime.CloseError](err)
		require.True(t, ok, "%v", err)
		require.EqualValues(t, 4500, end.Code)
		require.Equal(t, "banned", end.Reason)
		require.Equal(t, []client.Phase{client.Connecting, client.Closed}, r.takePhases())
	})
}

func TestToken(t *testing.T) {
	var seen []string
	o := realtime.Options{Authenticate: func(r *http.Request) (realtime.Identity, error) {
		seen = append(seen, realtime.BearerToken(r)+r.Header.Get("X-App"))
		return realtime.Identity{UserID: "alice"}, nil
	}}
	withManager(t, o, func(t *testing.T, w *testEnv) {
		n := 0
		alice := w.dialWith("", client.DialOptions{
			Header: http.Header{"X-App": {"!"}},
			Token: func(context.Context) (string, error) {
				switch n++; n {
				case 2:
					return "", errors.New("try again")
				case 4:
					return "", nil
				case 5:
					return "", realtime.ErrUnauthenticated
				}
				return fmt.Sprint("t", n), nil
			},
		})
		w.cutAll()
		alice.awaitReconnect()
		w.cutAll()
		alice.awaitReconnect()
		w.cutAll()
		time.Sleep(time.Minute)
		require.Equal(t, []string{"t1!", "t3!", "!"}, seen)
		err := alice.sendChat("lobby", "hi")
		require.ErrorIs(t, err, realtime.ErrClosed)
		require.ErrorIs(t, err, realtime.ErrUnauthenticated)
	})
}

// TestExpired tests that one attempt with a new token follows at once after the close code 4401.
func TestExpired(t *testing.T) {
	for name, test := range map[string]struct {
		token    bool
		lasts    time.Duration // how long the second connection lasts
		attempts int
		story    []string
	}{
		"new token":             {true, 11 * time.Second, 3, []string{"gap 4401", "gap 4401"}},
		"new token expires too": {true, time.Second, 2, []string{"gap 4401", "end 4401"}},
		"without":               {false, 0, 1, []string{"end 4401"}},
	} {
		t.Run(name, func(t *testing.T) {
			withHandler(t, scripted(t, func(s *script, n int) {
				if n == 2 {
					time.Sleep(test.lasts)
				}
				if n < 3 {
					_ = s.ws.Close(4401, "expired")
					return
				}
				s.serveUntilClosed()
			}), func(t *testing.T, w *testEnv) {
				o := client.DialOptions{}
				if test.token {
					o.Token = func(context.Context) (string, error) { return "t", nil }
				}
				began := time.Now()
				alice := w.dialWith("alice", o)
				time.Sleep(test.lasts)
				synctest.Wait()
				require.Equal(t, test.lasts, time.Since(began), "attempts follow at once")
				require.Equal(t, test.attempts, w.dialCount())
				require.Equal(t, test.story, alice.received())
			})
		})
	}
}

// TestRefresh tests that a client refreshes an expiring identity over the same connection.
func TestRefresh(t *testing.T) {
	var tokens []string
	id := func() realtime.Identity {
		return realtime.Identity{UserID: "alice", ExpiresAt: time.Now().Add(time.Minute)}
	}
	o := realtime.Options{
		Authenticate: func(*http.Request) (realtime.Identity, error) { return id(), nil },
		Revalidate: func(_ context.Context, _ *realtime.Conn, token string) (realtime.Identity, error) {
			if token == "" {
				return realtime.Identity{}, realtime.ErrUnauthenticated
			}
			tokens = append(tokens, token)
			return id(), nil
		},
	}
	withManager(t, o, func(t *testing.T, w *testEnv) {
		n := 0
		alice := w.dialWith("", client.DialOptions{Token: func(context.Context) (string, error) {
			n++
			return fmt.Sprint("t", n), nil
		}})
		time.Sleep(150 * time.Second)
		require.Empty(t, alice.received(), "the connection has not changed")
		require.Equal(t, []string{"t2", "t3"}, tokens)
		require.Equal(t, 1, w.dialCount())
	})
}
