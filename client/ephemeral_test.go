package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// flash is an ephemeral message.
func flash(content any) realtime.Message {
	p, _ := json.Marshal(content)
	return realtime.Message{Type: "flash", Content: p, Ephemeral: true}
}

// TestEphemeralMessagesWhileDisconnected tests that what is sent during an interruption arrives
// afterwards, except for ephemeral messages.
func TestEphemeralMessagesWhileDisconnected(t *testing.T) {
	withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		lobby := realtime.ToRoom("lobby")
		require.NoError(t, alice.Join(t.Context(), "lobby"))
		require.NoError(t, alice.Send(t.Context(), lobby, flash("before")))
		require.Equal(t, []string{`flash alice@lobby: "before"`}, alice.received())
		w.setDown(true)
		w.cutAll()
		synctest.Wait()
		var want []string
		sent := make(chan error, 12)
		for i := range 120 {
			require.NoError(t, alice.Send(t.Context(), lobby, flash(i)))
			if i%10 == 0 {
				want = append(want, fmt.Sprint("alice@lobby: ", i))
				go func() { sent <- alice.Send(t.Context(), lobby, realtime.Message{Content: fmt.Append(nil, i)}) }()
				synctest.Wait()
			}
			time.Sleep(5 * time.Second / 120)
		}
		w.setDown(false)
		alice.awaitReconnect()
		for range 12 {
			require.NoError(t, <-sent)
		}
		require.NoError(t, alice.Send(t.Context(), lobby, flash("after")))
		want = append([]string{"gap 1006"}, append(want, `flash alice@lobby: "after"`)...)
		require.Equal(t, want, alice.received())
	})
}

// TestEphemeralMessagesToAStalledServer tests that Send does not wait for a server that reads
// nothing, and that no more than 64 KiB of ephemeral messages, and the one being written, wait.
func TestEphemeralMessagesToAStalledServer(t *testing.T) {
	var heard []string
	withHandler(t, scripted(t, func(s *script, _ int) {
		time.Sleep(time.Second)
		for a := s.receive(); a.Type != "gone"; a = s.receive() {
			heard = append(heard, string(a.Content[:2]))
			if a.ID != 0 {
				s.replyEmpty(a)
			}
		}
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		start := time.Now()
		for range 200 {
			require.NoError(t, alice.Send(t.Context(), realtime.ToAll(), flash("e"+strings.Repeat("x", 1024))))
			synctest.Wait()
		}
		require.Zero(t, time.Since(start))
		require.NoError(t, alice.Send(t.Context(), realtime.ToAll(), realtime.Message{Content: []byte(`"m"`)}))
		require.NoError(t, alice.Close())
		require.Equal(t, `"m`, heard[len(heard)-1], "in the order of sending")
		require.InDelta(t, 60, len(heard)-1, 3) // with its members, one has 1100 bytes
	})
}

// TestEphemeralMessageIsRefused tests that an ephemeral message that cannot be sent is an error, and
// that the client yields a refusal of the server.
func TestEphemeralMessageIsRefused(t *testing.T) {
	denied := func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
		if a.Kind == realtime.ActionSend {
			return realtime.ErrForbidden
		}
		return nil
	}
	withManager(t, realtime.Options{Authorize: denied}, func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		room, good := realtime.ToRoom("lobby"), flash(1)
		with := func(change func(m *realtime.Message)) realtime.Message {
			m := good
			change(&m)
			return m
		}
		for name, test := range map[string]struct {
			to   realtime.Target
			msg  realtime.Message
			want error
		}{
			"id":         {room, with(func(m *realtime.Message) { m.ID = "x" }), realtime.ErrInvalidMessage},
			"latest":     {room, with(func(m *realtime.Message) { m.Latest = "x" }), realtime.ErrInvalidMessage},
			"ttl":        {room, with(func(m *realtime.Message) { m.TTL = 1 }), realtime.ErrInvalidMessage},
			"no JSON":    {room, with(func(m *realtime.Message) { m.Content = []byte("x") }), realtime.ErrInvalidMessage},
			"type":       {room, with(func(m *realtime.Message) { m.Type = " " }), realtime.ErrInvalidName},
			"two rooms":  {realtime.ToRoom("a", "b"), good, client.ErrTarget},
			"too large":  {room, flash(strings.Repeat("x", 65536)), realtime.ErrTooLarge},
			"by Manager": {room, good, nil},
		} {
			require.ErrorIs(t, alice.Send(t.Context(), test.to, test.msg), test.want, name)
		}
		_, err := alice.SendReceipt(t.Context(), room, good)
		require.ErrorIs(t, err, realtime.ErrInvalidMessage)
		synctest.Wait()
		require.EqualValues(t, 1, w.rt.Stats().Denied)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(context.DeadlineExceeded)
		require.Equal(t, context.DeadlineExceeded, alice.Send(ctx, room, good))
		_, err = alice.Ping(t.Context())
		require.NoError(t, err, "the connection lasts")
		require.NoError(t, alice.Close())
		require.ErrorIs(t, alice.Send(t.Context(), room, good), realtime.ErrClosed)
		require.Equal(t, []string{"room lobby: forbidden", "end"}, alice.received())
	})
}

// TestEphemeralMessagesForASlowConsumer tests that no more than 65 ephemeral messages wait for the
// consumer, and that nothing reports the others.
func TestEphemeralMessagesForASlowConsumer(t *testing.T) {
	for limit, want := range map[int]int{1000: 65, 10: 10} {
		withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
			alice := w.dialPaused("alice", client.DialOptions{QueueMessages: limit})
			for range 200 {
				_, err := w.rt.Send(t.Context(), realtime.ToUser("alice"), flash("e"))
				require.NoError(t, err)
				synctest.Wait()
			}
			alice.startReading()
			require.Len(t, alice.received(), want)
			_, err := w.rt.Send(t.Context(), realtime.ToUser("alice"), flash("e"))
			require.NoError(t, err)
			require.Equal(t, []string{`flash : "e"`}, alice.received())
			require.NotContains(t, alice.received(), "gap")
		})
	}
}

// TestEphemeralMessagesOfALostConnection tests that ephemeral messages that were not written before
// their connection was lost, or before the client was closed, are dropped.
func TestEphemeralMessagesOfALostConnection(t *testing.T) {
	var heard []string
	withHandler(t, scripted(t, func(s *script, n int) {
		if n == 1 {
			time.Sleep(time.Minute)
			return
		}
		a := s.receive()
		heard = append(heard, string(a.Content))
		s.replyEmpty(a)
		time.Sleep(time.Minute)
	}), func(t *testing.T, w *testEnv) {
		alice := w.dialWith("alice", client.DialOptions{PingInterval: -1})
		send := func() {
			for range 10 {
				require.NoError(t, alice.Send(t.Context(), realtime.ToAll(), flash("e")))
				synctest.Wait()
			}
		}
		send()
		w.cutAll()
		alice.awaitReconnect()
		require.NoError(t, alice.Send(t.Context(), realtime.ToAll(), realtime.Message{Content: []byte(`"m"`)}))
		require.Equal(t, []string{`"m"`}, heard)
		send()
		require.NoError(t, alice.Close())
	})
}
