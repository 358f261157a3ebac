package client_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// replyLater answers that the server cannot serve a request for now.
func (s *script) replyLater(a clientRequest) {
	s.send(fmt.Sprintf(`{"message_type":"error","id":%d,"content":`+
		`{"code":"unavailable","message":"","retry_ms":1000}}`, a.ID))
}

// TestUnavailable tests that a request is sent again, with growing waits, while the server cannot
// serve it, and that others are not delayed. A call is never repeated.
func TestUnavailable(t *testing.T) {
	for name, ask := range operations {
		t.Run(name, func(t *testing.T) {
			var heard []string
			var times []time.Time
			withHandler(t, scripted(t, func(s *script, n int) {
				for a := s.receive(); a.Type != "gone"; a = s.receive() {
					if a.Room == "other" {
						s.replyEmpty(a)
						continue
					}
					heard, times = append(heard, a.raw), append(times, time.Now())
					if len(heard) < 20 {
						s.replyLater(a)
					} else if a.Type == "history" {
						s.reply(a, "{}")
					} else {
						s.reply(a, `{"show":"nothing"}`)
					}
				}
			}), func(t *testing.T, w *testEnv) {
				alice := w.dialWith("alice", client.DialOptions{PendingSends: 1, PendingRequests: 2, PingInterval: -1})
				done := make(chan error, 1)
				go func() { done <- ask(t.Context(), alice.Client, "lobby") }()
				synctest.Wait()
				if name == "call" {
					err, ok := errors.AsType[*realtime.Error](<-done)
					require.True(t, ok)
					require.Equal(t, realtime.Error{Code: "unavailable", Message: "no reason given", RetryAfter: time.Second}, *err)
					time.Sleep(time.Minute)
					synctest.Wait()
					require.Len(t, heard, 1)
					return
				}
				require.Empty(t, done)
				began := time.Now()
				require.NoError(t, alice.Send(t.Context(), realtime.ToRoom("other"), realtime.Message{}))
				require.Equal(t, began, time.Now(), "it does not wait for the other one")
				ctx, cancel := context.WithCancel(t.Context())
				go func() { _ = alice.Send(ctx, realtime.ToRoom("lobby"), realtime.Message{}) }()
				synctest.Wait()
				require.ErrorIs(t, alice.Send(t.Context(), realtime.ToRoom("other"), realtime.Message{}),
					client.ErrFull, "both count")
				require.Len(t, heard, 2)
				cancel()
				require.NoError(t, <-done)
				synctest.Wait()
				require.Len(t, heard, 20)
				heard, times = append(heard[:1], heard[2:]...), append(times[:1], times[2:]...)
				longest := time.Duration(0)
				for i := range heard[1:] {
					require.Equal(t, heard[0], heard[i+1], "also the id")
					wait := times[i+1].Sub(times[i])
					require.GreaterOrEqual(t, wait, time.Second)
					require.LessOrEqual(t, wait, time.Second+min(time.Second<<min(i, 5), 10*time.Second))
					longest = max(longest, wait)
				}
				require.Greater(t, longest, 2*time.Second, "the wait grows")
			})
		})
	}
}

// TestUnavailableAndReconnect tests that a request that waits to be sent again is sent over the next
// connection, once.
func TestUnavailableAndReconnect(t *testing.T) {
	var heard []string
	withHandler(t, scripted(t, func(s *script, n int) {
		for a := s.receive(); a.Type != "gone"; a = s.receive() {
			heard = append(heard, fmt.Sprint(n, " ", a.MsgID))
			if n == 1 {
				s.replyLater(a)
			} else {
				s.replyEmpty(a)
			}
		}
	}), func(t *testing.T, w *testEnv) {
		alice := w.dialWith("alice", client.DialOptions{PingInterval: -1})
		done := make(chan error, 1)
		go func() { done <- alice.Send(t.Context(), realtime.ToRoom("lobby"), realtime.Message{ID: "m"}) }()
		synctest.Wait()
		w.cutAll()
		alice.awaitReconnect()
		synctest.Wait()
		require.Len(t, done, 1, "it does not wait any longer")
		require.NoError(t, <-done)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, []string{"1 m", "2 m"}, heard)
		go func() { done <- alice.Send(t.Context(), realtime.ToRoom("lobby"), realtime.Message{ID: "n"}) }()
		require.NoError(t, <-done)
	})
}

// TestUnavailableAndClose tests that nothing waits any more when the client has ended.
func TestUnavailableAndClose(t *testing.T) {
	withHandler(t, scripted(t, func(s *script, n int) {
		for a := s.receive(); a.Type != "gone"; a = s.receive() {
			s.replyLater(a)
		}
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		done := make(chan error, 1)
		go func() { done <- alice.Join(t.Context(), "lobby") }()
		synctest.Wait()
		require.NoError(t, alice.Close())
		require.ErrorIs(t, <-done, realtime.ErrClosed)
	})
}

// TestUnavailableRejoin tests that a room that cannot be joined again for now delays no messages of
// other rooms, and that the client does not join it again if it has left meanwhile.
func TestUnavailableRejoin(t *testing.T) {
	for name, test := range map[string]struct {
		leave    func(alice *testClient, s *script)
		received []string
		joins    int
	}{
		"stays":   {func(*testClient, *script) {}, []string{"gap 1006", `bob@lobby: "hi"`}, 3},
		"leaves":  {func(alice *testClient, _ *script) { _ = alice.Leave(context.Background(), "kept") }, []string{"gap 1006", `bob@lobby: "hi"`}, 2},
		"removed": {func(_ *testClient, s *script) { s.send(`{"message_type":"left","room":"kept"}`) }, []string{"gap 1006", `bob@lobby: "hi"`, "room kept: removed"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			joins := 0
			var second *script
			withHandler(t, scripted(t, func(s *script, n int) {
				if n == 2 {
					second = s
				}
				for a := s.receive(); a.Type != "gone"; a = s.receive() {
					switch {
					case a.Type == "join" && a.Room == "kept":
						if joins++; joins == 2 {
							s.replyLater(a)
							s.sendChat("m", "hi")
							continue
						}
						s.reply(a, `{"epoch":"e","offset":1,"top":1,"recovered":true}`)
					case a.Type == "leave" && a.Room != "kept":
						t.Errorf("left %s", a.Room)
					default:
						s.replyEmpty(a)
					}
				}
			}), func(t *testing.T, w *testEnv) {
				alice := w.dial("alice")
				require.NoError(t, alice.Join(t.Context(), "lobby"))
				require.NoError(t, alice.Join(t.Context(), "kept"))
				w.cutAll()
				alice.awaitReconnect()
				synctest.Wait()
				test.leave(alice, second)
				synctest.Wait()
				require.Equal(t, test.received, alice.received())
				time.Sleep(time.Minute)
				synctest.Wait()
				require.Equal(t, test.joins, joins)
			})
		})
	}
}
