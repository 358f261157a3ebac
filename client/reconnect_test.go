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

// Every close code is followed as the table in docs/PROTOCOL.md says.
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
			served(t, play(t, func(s *stage, n int) {
				time.Sleep(time.Second)
				switch {
				case n > 1:
					s.lasts()
				case test.code != 1006:
					_ = s.ws.Close(websocket.StatusCode(test.code), "because")
				}
			}), func(t *testing.T, w *world) {
				alice := w.dial("alice")
				time.Sleep(time.Minute)
				if test.comeBack {
					require.Equal(t, []string{fmt.Sprint("gap ", test.code)}, alice.got())
					require.NoError(t, alice.Send(t.Context(), realtime.ToAll(), realtime.Message{}))
					return
				}
				require.Equal(t, []string{fmt.Sprint("end ", test.code)}, alice.got())
				require.ErrorIs(t, alice.Send(t.Context(), realtime.ToAll(), realtime.Message{}), realtime.ErrClosed)
				require.Equal(t, 1, w.dialled())
			})
		})
	}
}

// Waits are random, below a limit that doubles.
func TestBackoff(t *testing.T) {
	served(t, play(t, func(s *stage, _ int) { s.lasts() }), func(t *testing.T, w *world) {
		alice := w.dial("alice")
		time.Sleep(time.Minute)
		w.setDown(true)
		w.cut()
		time.Sleep(time.Hour)
		waits := alice.waited()
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
		require.InDelta(t, n/2, long, float64(n)/4, "half of them are longer than half of the limit")
	})
}

// Only a connection that lasts for 10 s makes the waits short again.
func TestBackoffBeginsAnew(t *testing.T) {
	for lasts, short := range map[time.Duration]bool{10*time.Second - 1: false, 10 * time.Second: true} {
		served(t, play(t, func(s *stage, _ int) {
			time.Sleep(lasts)
			_ = s.ws.Close(1011, "")
		}), func(t *testing.T, w *world) {
			alice := w.dial("alice")
			time.Sleep(time.Hour)
			require.Equal(t, short, alice.longest() < time.Second, "%v", alice.longest())
			require.Less(t, alice.longest(), 30*time.Second)
		})
	}
}

// All whom a server loses at once come back spread over the time that it has asked for.
func TestSpread(t *testing.T) {
	for code, spread := range map[websocket.StatusCode]bool{
		1001: true, 1006: true, 1012: true, 1011: false, 1013: false, 4300: false, 4308: false,
	} {
		served(t, playWith(t, 20_000, func(s *stage, _ int) {
			time.Sleep(10 * time.Second)
			if code != 1006 {
				_ = s.ws.Close(code, "")
			}
		}), func(t *testing.T, w *world) {
			alice := w.dial("alice")
			time.Sleep(20 * time.Minute)
			require.Equal(t, spread, alice.longest() > 10*time.Second, "%d: %v", code, alice.longest())
			require.Less(t, alice.longest(), 20*time.Second)
			if !spread {
				require.Less(t, alice.longest(), time.Second)
			}
		})
	}
}

func TestStates(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, w *world) {
		alice := w.dial("alice")
		require.NoError(t, w.rt.Shutdown(t.Context()))
		states := alice.been()
		require.Len(t, states, 3)
		require.Equal(t, client.State{Phase: client.Connecting}, states[0])
		require.Equal(t, client.State{Phase: client.Open}, states[1])
		require.Equal(t, client.Waiting, states[2].Phase)
		require.Equal(t, "end 1012", brief(states[2].Err))
		require.False(t, states[2].Retry.Before(time.Now()))
		require.NoError(t, alice.Close())
		states = alice.been()
		require.Equal(t, client.State{Phase: client.Closed, Err: realtime.ErrClosed}, states[len(states)-1])
		require.Equal(t, "connecting open waiting closed phase(9)", fmt.Sprint(client.Connecting, client.Open,
			client.Waiting, client.Closed, client.Phase(9)))
	})
}

func TestRoomsAreJoinedAgain(t *testing.T) {
	o := realtime.Options{}
	bubble(t, o, func(t *testing.T, w *world) {
		alice, bob := w.dial("alice"), w.dial("bob")
		alice.join("one", "two", "three", "two")
		require.NoError(t, alice.Leave(t.Context(), "three"))
		for _, end := range []func(){w.cut, func() { w.restart(o) }} {
			end()
			alice.back()
			bob.back()
			for _, room := range []string{"one", "two", "three"} {
				require.NoError(t, bob.say(room, "hi"))
			}
		}
		require.Equal(t, []string{
			`gap 1006`, `bob@one: "hi"`, `bob@two: "hi"`, `gap 1012`, `bob@one: "hi"`, `bob@two: "hi"`,
		}, alice.got())
	})
}

func TestRoomIsRefusedLater(t *testing.T) {
	var refused []string
	no := func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
		if a.Room == "one" {
			refused = append(refused, a.Conn)
			return realtime.ErrForbidden
		}
		return nil
	}
	bubble(t, realtime.Options{}, func(t *testing.T, w *world) {
		alice := w.dial("alice")
		alice.join("one", "two")
		w.restart(realtime.Options{Authorize: no})
		alice.back()
		require.Equal(t, []string{"gap 1012", "room one: forbidden"}, alice.got())
		w.cut()
		alice.back()
		require.NoError(t, alice.say("two", "hi"))
		require.Equal(t, []string{"gap 1006", `alice@two: "hi"`}, alice.got())
		require.Len(t, refused, 1, "the room is forgotten")
	})
}

func TestRoomIsTakenAway(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, w *world) {
		alice := w.dial("alice")
		alice.join("one", "two")
		for _, room := range []string{"one", "never joined"} {
			_, err := w.rt.Room(room).Remove(t.Context(), "alice")
			require.NoError(t, err)
		}
		_, err := alice.Ping(t.Context())
		require.NoError(t, err)
		w.cut()
		alice.back()
		require.NoError(t, alice.Join(t.Context(), "three"))
		require.Equal(t, []string{"room one: removed", "gap 1006"}, alice.got())
		for room, want := range map[string]int{"one": 0, "two": 1, "three": 1} {
			n, err := w.rt.Room(room).Count(t.Context())
			require.NoError(t, err)
			require.Equal(t, want, n.Users, room)
		}
	})
}

// A consumer that is told of a gap has not missed anything that comes after it.
func TestGapIsToldWhenRoomsAreJoined(t *testing.T) {
	served(t, play(t, func(s *stage, n int) {
		join := s.hears()
		if n == 1 {
			s.replies(join)
			s.chats("1", "before")
			return
		}
		s.chats("2", "early")
		time.Sleep(20 * time.Second)
		s.replies(join)
		s.lasts()
	}), func(t *testing.T, w *world) {
		alice := w.dial("alice")
		alice.join("lobby")
		alice.back()
		require.Equal(t, []string{`bob@lobby: "before"`}, alice.got())
		time.Sleep(20 * time.Second)
		require.Equal(t, []string{`gap 1006`, `bob@lobby: "early"`}, alice.got())
	})
}

// A connection that ends before the rooms are joined does not hold anything back.
func TestGapWithoutRooms(t *testing.T) {
	served(t, play(t, func(s *stage, n int) {
		join := s.hears()
		switch n {
		case 1:
			s.replies(join)
		case 2:
			s.chats("1", "early")
			time.Sleep(time.Second)
		default:
			time.Sleep(time.Minute)
		}
	}), func(t *testing.T, w *world) {
		alice := w.dial("alice")
		alice.join("lobby")
		alice.back()
		w.setDown(true)
		time.Sleep(time.Minute)
		require.Equal(t, []string{`gap 1006`, `bob@lobby: "early"`}, alice.got())
		w.setDown(false)
		alice.back()
		require.NoError(t, alice.Close())
		require.Equal(t, []string{`gap 1006`, `end`}, alice.got(), "the end holds nothing back")
	})
}

// forgetful is a server that reads a join and four messages, answers two of these five requests,
// and is gone. From then on it answers everything. It returns what it has read, of each connection.
func forgetful(t *testing.T) (h http.Handler, first, second *[]asked) {
	first, second = new([]asked), new([]asked)
	return play(t, func(s *stage, n int) {
		if n > 1 {
			for a := s.hears(); a.Type != "gone"; a = s.hears() {
				*second = append(*second, a)
				s.replies(a)
			}
			return
		}
		for i := range 5 {
			a := s.hears()
			*first = append(*first, a)
			if i < 2 {
				s.replies(a)
			}
		}
		time.Sleep(time.Second)
	}), first, second
}

// What was not answered is sent again: after the rooms, in the old order, with the same id.
func TestSendAgain(t *testing.T) {
	h, first, second := forgetful(t)
	served(t, h, func(t *testing.T, w *world) {
		alice := w.dial("alice")
		alice.join("lobby")
		done := make(chan error)
		for i := range 7 {
			synctest.Wait()
			go func() { done <- alice.say("lobby", fmt.Sprint(i)) }()
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

// What was given up before it was sent is not sent.
func TestGivenUp(t *testing.T) {
	var heard []asked
	h := play(t, func(s *stage, _ int) {
		for a := s.hears(); a.Type != "gone"; a = s.hears() {
			heard = append(heard, a)
			s.replies(a)
		}
	})
	served(t, h, func(t *testing.T, w *world) {
		alice := w.dial("alice")
		w.setDown(true)
		w.cut()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.ErrorIs(t, alice.Join(ctx, "lobby"), context.DeadlineExceeded)
		w.setDown(false)
		require.NoError(t, alice.Leave(t.Context(), "hall"))
		require.Len(t, heard, 1)
	})
}

// A server that comes back may take less than the one before.
func TestSendAgainTooLarge(t *testing.T) {
	served(t, bare(t, func(s *stage, n int) {
		s.says(fmt.Sprintf(hello, 1000/n, 0))
		if n == 1 {
			s.hears()
			return
		}
		s.lasts()
	}), func(t *testing.T, w *world) {
		alice := w.dial("alice")
		err := alice.Send(t.Context(), realtime.ToAll(), realtime.Message{Binary: make([]byte, 800)})
		require.ErrorIs(t, err, realtime.ErrTooLarge)
		require.NoError(t, alice.Send(t.Context(), realtime.ToAll(), realtime.Message{}))
	})
}

// Sends wait their turn, and that is bounded.
func TestPendingSends(t *testing.T) {
	var heard []string
	served(t, play(t, func(s *stage, _ int) {
		for a := s.hears(); a.Type != "gone"; a = s.hears() {
			heard = append(heard, string(a.Content))
			time.Sleep(time.Second)
			s.replies(a)
		}
	}), func(t *testing.T, w *world) {
		alice := w.dialWith("alice", client.DialOptions{PendingSends: 2})
		sent := make(chan error, 5)
		for i := range 5 {
			synctest.Wait()
			go func() { sent <- alice.say("lobby", fmt.Sprint(i)) }()
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		require.ErrorIs(t, alice.Send(ctx, realtime.ToAll(), realtime.Message{}), context.DeadlineExceeded)
		require.Equal(t, time.Second/2, time.Since(began), "its turn has not come")
		for i := range 5 {
			require.NoError(t, <-sent)
			require.Equal(t, time.Duration(i+1)*time.Second, time.Since(began))
		}
		require.Equal(t, []string{`"0"`, `"1"`, `"2"`, `"3"`, `"4"`}, heard)
	})
}
