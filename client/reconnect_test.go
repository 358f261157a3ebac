package client_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// TestCloseCodes tests that a client reconnects after the close codes for which docs/PROTOCOL.md
// says so.
func TestCloseCodes(t *testing.T) {
	for _, test := range []struct {
		code     int
		comeBack bool
	}{
		{1000, false}, {1001, true}, {1002, false}, {1003, false}, {1005, false}, {1006, true},
		{1007, false}, {1008, false}, {1009, false}, {1010, false}, {1011, true}, {1012, true},
		{1013, true}, {1014, true}, {3000, true}, {4299, true}, {4300, true}, {4308, true},
		{4399, true}, {4400, false}, {4401, false}, {4403, false}, {4409, false}, {4429, false},
		{4500, false}, {4999, false},
	} {
		t.Run(fmt.Sprint(test.code), func(t *testing.T) {
			require.Equal(t, test.comeBack, realtime.CloseCode(test.code).ComeBack())
			withHandler(t, scripted(t, func(s *script, n int) {
				time.Sleep(time.Second)
				switch {
				case n > 1:
					s.serveUntilClosed()
				case test.code != 1006:
					_ = s.ws.Close(websocket.StatusCode(test.code), "because")
				}
			}), func(t *testing.T, w *testEnv) {
				alice := w.dial("alice")
				time.Sleep(time.Minute)
				if test.comeBack {
					require.Equal(t, []string{fmt.Sprint("gap ", test.code)}, alice.received())
					require.NoError(t, alice.Send(t.Context(), realtime.ToAll(), realtime.Message{}))
					return
				}
				require.Equal(t, []string{fmt.Sprint("end ", test.code)}, alice.received())
				require.ErrorIs(t, alice.Send(t.Context(), realtime.ToAll(), realtime.Message{}), realtime.ErrClosed)
				require.Equal(t, 1, w.dialCount())
			})
		})
	}
}

// TestBackoff tests that waits are random, below a limit that doubles.
func TestBackoff(t *testing.T) {
	withHandler(t, scripted(t, func(s *script, _ int) { s.serveUntilClosed() }), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		time.Sleep(time.Minute)
		w.setDown(true)
		w.cutAll()
		time.Sleep(time.Hour)
		waits := alice.waitTimes()
		limit, long := time.Second, 0
		for i, wait := range waits {
			require.Less(t, wait, limit, i)
			if wait > limit/2 {
				long++
			}
			limit = min(2*limit, 30*time.Second)
		}
		n := len(waits)
		require.InDelta(t, 3600/15, n, 60, "the mean is 15 s")
		require.InDelta(t, n/2, long, float64(n)/4, "half of the waits are longer than half of the limit")
	})
}

// TestBackoffReset tests that only a connection that lasts for 10 s resets the limit of the wait.
func TestBackoffReset(t *testing.T) {
	for lasts, short := range map[time.Duration]bool{10*time.Second - 1: false, 10 * time.Second: true} {
		withHandler(t, scripted(t, func(s *script, _ int) {
			time.Sleep(lasts)
			_ = s.ws.Close(1011, "")
		}), func(t *testing.T, w *testEnv) {
			alice := w.dial("alice")
			time.Sleep(time.Hour)
			require.Equal(t, short, alice.longestWait() < time.Second, "%v", alice.longestWait())
			require.Less(t, alice.longestWait(), 30*time.Second)
		})
	}
}

// TestSpread tests that clients that a server loses at once reconnect over the period that the
// server has asked for.
func TestSpread(t *testing.T) {
	for code, spread := range map[websocket.StatusCode]bool{
		1001: true, 1006: true, 1012: true, 1011: false, 1013: false, 4300: false, 4308: false,
	} {
		withHandler(t, scriptedSpread(t, 20_000, func(s *script, _ int) {
			time.Sleep(10 * time.Second)
			if code != 1006 {
				_ = s.ws.Close(code, "")
			}
		}), func(t *testing.T, w *testEnv) {
			alice := w.dial("alice")
			time.Sleep(20 * time.Minute)
			require.Equal(t, spread, alice.longestWait() > 10*time.Second, "%d: %v", code, alice.longestWait())
			require.Less(t, alice.longestWait(), 20*time.Second)
			if !spread {
				require.Less(t, alice.longestWait(), time.Second)
			}
		})
	}
}

func TestStates(t *testing.T) {
	withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		require.NoError(t, w.rt.Shutdown(t.Context()))
		states := alice.takeStates()
		require.Len(t, states, 3)
		require.Equal(t, client.State{Phase: client.Connecting}, states[0])
		require.Equal(t, client.State{Phase: client.Open}, states[1])
		require.Equal(t, client.Waiting, states[2].Phase)
		require.Equal(t, "end 1012", describeError(states[2].Err))
		require.False(t, states[2].Retry.Before(time.Now()))
		require.NoError(t, alice.Close())
		states = alice.takeStates()
		require.Equal(t, client.State{Phase: client.Closed, Err: realtime.ErrClosed}, states[len(states)-1])
		require.Equal(t, "connecting open waiting closed phase(9)", fmt.Sprint(client.Connecting, client.Open,
			client.Waiting, client.Closed, client.Phase(9)))
	})
}

func TestRoomsAreRejoined(t *testing.T) {
	o := realtime.Options{}
	withManager(t, o, func(t *testing.T, w *testEnv) {
		alice, bob := w.dial("alice"), w.dial("bob")
		alice.join("one", "two", "three", "two")
		require.NoError(t, alice.Leave(t.Context(), "three"))
		for _, end := range []func(){w.cutAll, func() { w.restart(o) }} {
			end()
			alice.awaitReconnect()
			bob.awaitReconnect()
			for _, room := range []string{"one", "two", "three"} {
				require.NoError(t, bob.sendChat(room, "hi"))
			}
		}
		require.Equal(t, []string{
			`gap 1006`, `bob@one: "hi"`, `bob@two: "hi"`, `gap 1012`, `bob@one: "hi"`, `bob@two: "hi"`,
		}, alice.received())
	})
}

func TestRejoinRefused(t *testing.T) {
	var refused []string
	no := func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
		if a.Room == "one" {
			refused = append(refused, a.Conn)
			return realtime.ErrForbidden
		}
		return nil
	}
	withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		alice.join("one", "two")
		w.restart(realtime.Options{Authorize: no})
		alice.awaitReconnect()
		require.Equal(t, []string{"gap 1012", "room one: forbidden"}, alice.received())
		w.cutAll()
		alice.awaitReconnect()
		require.NoError(t, alice.sendChat("two", "hi"))
		require.Equal(t, []string{"gap 1006", `alice@two: "hi"`}, alice.received())
		require.Len(t, refused, 1, "the client does not ask again")
	})
}

func TestRemovedFromRoom(t *testing.T) {
	withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		alice.join("one", "two")
		for _, room := range []string{"one", "never joined"} {
			_, err := w.rt.Room(room).Remove(t.Context(), "alice")
			require.NoError(t, err)
		}
		_, err := alice.Ping(t.Context())
		require.NoError(t, err)
		w.cutAll()
		alice.awaitReconnect()
		require.NoError(t, alice.Join(t.Context(), "three"))
		require.Equal(t, []string{"room one: removed", "gap 1006"}, alice.received())
		for room, want := range map[string]int{"one": 0, "two": 1, "three": 1} {
			n, err := w.rt.Room(room).Count(t.Context())
			require.NoError(t, err)
			require.Equal(t, want, n.Users, room)
		}
	})
}

// TestGapIsReportedAfterRejoin tests that messages received after a gap are complete: the gap is
// yielded after the rooms are joined again.
func TestGapIsReportedAfterRejoin(t *testing.T) {
	withHandler(t, scripted(t, func(s *script, n int) {
		join := s.receive()
		if n == 1 {
			s.replyEmpty(join)
			s.sendChat("1", "before")
			return
		}
		s.sendChat("2", "early")
		time.Sleep(20 * time.Second)
		s.replyEmpty(join)
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		alice.join("lobby")
		alice.awaitReconnect()
		require.Equal(t, []string{`bob@lobby: "before"`}, alice.received())
		time.Sleep(20 * time.Second)
		require.Equal(t, []string{`gap 1006`, `bob@lobby: "early"`}, alice.received())
	})
}

// TestGapWhenRejoinFails tests that a connection that ends before its rooms are joined does not
// hold messages back.
func TestGapWhenRejoinFails(t *testing.T) {
	withHandler(t, scripted(t, func(s *script, n int) {
		join := s.receive()
		switch n {
		case 1:
			s.replyEmpty(join)
		case 2:
			s.sendChat("1", "early")
			time.Sleep(time.Second)
		default:
			time.Sleep(time.Minute)
		}
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		alice.join("lobby")
		alice.awaitReconnect()
		w.setDown(true)
		time.Sleep(time.Minute)
		require.Equal(t, []string{`gap 1006`, `bob@lobby: "early"`}, alice.received())
		w.setDown(false)
		alice.awaitReconnect()
		require.NoError(t, alice.Close())
		require.Equal(t, []string{`gap 1006`, `end`}, alice.received(), "nothing is held back")
	})
}

// answersTwo is a server that reads a join and four messages, answers two of these five requests
// and ends the connection. It answers everything over later connections. It records the requests of
// the first connection and of the later ones.
func answersTwo(t *testing.T) (h http.Handler, first, second *[]clientRequest) {
	first, second = new([]clientRequest), new([]clientRequest)
	return scripted(t, func(s *script, n int) {
		if n > 1 {
			for a := s.receive(); a.Type != "gone"; a = s.receive() {
				*second = append(*second, a)
				s.replyEmpty(a)
			}
			return
		}
		for i := range 5 {
			a := s.receive()
			*first = append(*first, a)
			if i < 2 {
				s.replyEmpty(a)
			}
		}
		time.Sleep(time.Second)
	}), first, second
}

// TestRequestsAreRepeated tests that requests without an answer are sent again: after the joins, in
// the same order, with the same IDs.
func TestRequestsAreRepeated(t *testing.T) {
	h, first, second := answersTwo(t)
	withHandler(t, h, func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		alice.join("lobby")
		done := make(chan error)
		for i := range 7 {
			synctest.Wait()
			go func() { done <- alice.sendChat("lobby", fmt.Sprint(i)) }()
		}
		synctest.Wait()
		go func() { done <- alice.Leave(t.Context(), "lobby") }()
		for range 8 {
			require.NoError(t, <-done)
		}
		synctest.Wait()
		again := *second
		require.Len(t, again, 8)
		require.Equal(t, "join", again[0].Type)
		for i, a := range again[1:7] {
			require.JSONEq(t, fmt.Sprintf(`"%d"`, i+1), string(a.Content))
		}
		require.Equal(t, "leave", again[7].Type)
		for i, a := range (*first)[2:] {
			require.Equal(t, a.raw, again[i+1].raw)
		}
		require.NotEqual(t, again[1].MsgID, again[2].MsgID)
	})
}

// TestCancelledRequestIsNotSent tests that a request whose context ends before it is sent is never
// sent.
func TestCancelledRequestIsNotSent(t *testing.T) {
	var heard []clientRequest
	h := scripted(t, func(s *script, _ int) {
		for a := s.receive(); a.Type != "gone"; a = s.receive() {
			heard = append(heard, a)
			s.replyEmpty(a)
		}
	})
	withHandler(t, h, func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		w.setDown(true)
		w.cutAll()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.ErrorIs(t, alice.Join(ctx, "lobby"), context.DeadlineExceeded)
		w.setDown(false)
		require.NoError(t, alice.Leave(t.Context(), "hall"))
		require.Len(t, heard, 1)
	})
}

// TestRepeatedRequestTooLarge tests that a repeated request fails if it is larger than the new
// connection accepts.
func TestRepeatedRequestTooLarge(t *testing.T) {
	withHandler(t, scriptedRaw(t, func(s *script, n int) {
		s.send(fmt.Sprintf(welcomeFormat, 1000/n, 0))
		if n == 1 {
			s.receive()
			return
		}
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		err := alice.Send(t.Context(), realtime.ToAll(), realtime.Message{Binary: make([]byte, 800)})
		require.ErrorIs(t, err, realtime.ErrTooLarge)
		require.NoError(t, alice.Send(t.Context(), realtime.ToAll(), realtime.Message{}))
	})
}

// TestPendingSends tests that calls of Send wait for their turn.
func TestPendingSends(t *testing.T) {
	var heard []string
	withHandler(t, scripted(t, func(s *script, _ int) {
		for a := s.receive(); a.Type != "gone"; a = s.receive() {
			heard = append(heard, string(a.Content))
			time.Sleep(time.Second)
			s.replyEmpty(a)
		}
	}), func(t *testing.T, w *testEnv) {
		alice := w.dialWith("alice", client.DialOptions{PendingSends: 2})
		sent := make(chan error, 5)
		for i := range 5 {
			synctest.Wait()
			go func() { sent <- alice.sendChat("lobby", fmt.Sprint(i)) }()
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		require.ErrorIs(t, alice.Send(ctx, realtime.ToAll(), realtime.Message{}), context.DeadlineExceeded)
		require.Equal(t, time.Second/2, time.Since(began), "Send waited for its turn")
		for i := range 5 {
			require.NoError(t, <-sent)
			require.Equal(t, time.Duration(i+1)*time.Second, time.Since(began))
		}
		require.Equal(t, []string{`"0"`, `"1"`, `"2"`, `"3"`, `"4"`}, heard)
	})
}
