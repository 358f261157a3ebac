package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

func TestMessages(t *testing.T) {
	o := realtime.Options{AnnounceUsers: true, Show: realtime.ShowMembers}
	withManager(t, o, func(t *testing.T, w *testEnv) {
		ctx := t.Context()
		alice, bob := w.dial("alice"), w.dial("bob")
		alice.join("lobby", "lobby")
		bob.join("lobby")
		require.Equal(t, []string{
			`userjoined bob: {"user_id":"bob","message":"User bob joined"}`,
		}, alice.received(), "and no notices of rooms")
		require.Empty(t, bob.received())

		require.NoError(t, alice.sendChat("lobby", "<hi> & ü"))
		require.NoError(t, bob.Send(ctx, realtime.ToUser("alice"), realtime.Message{Type: "poke"}))
		require.NoError(t, bob.Send(ctx, realtime.ToAll(), realtime.Message{Content: []byte(`[1, 2]`)}))
		require.NoError(t, alice.Send(ctx, realtime.ToRoom("lobby"),
			realtime.Message{Type: "frame", Binary: []byte{0, 1, 255}}))
		require.NoError(t, alice.Send(ctx, realtime.ToRoom("lobby"), realtime.Message{Binary: []byte{}}))
		require.Equal(t, []string{
			`alice@lobby: "<hi> & ü"`, `poke bob: null`, `bob: [1,2]`, `frame alice@lobby: 0001ff`, `alice@lobby: `,
		}, alice.received())

		p, err := alice.FetchPresence(ctx, "lobby")
		require.NoError(t, err)
		require.Equal(t, []int{2, 2}, []int{p.UserCount, p.ConnCount})
		require.NoError(t, bob.Leave(ctx, "lobby"))
		require.NoError(t, bob.Leave(ctx, "lobby"))
		bob.received()
		require.NoError(t, alice.sendChat("lobby", "anybody?"))
		require.Empty(t, bob.received())
	})
}

func TestMessageFields(t *testing.T) {
	withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
		alice := w.dialPaused("alice", client.DialOptions{})
		alice.join("lobby")
		now := time.Now()
		for _, m := range []realtime.Message{
			{Content: []byte(`{}`)}, {Type: "t", ID: "mine", Binary: []byte("b")}, {},
		} {
			require.NoError(t, alice.Send(t.Context(), realtime.ToRoom("lobby"), m))
		}
		var got []client.Message
		for m, err := range alice.Messages() {
			require.NoError(t, err)
			if got = append(got, m); len(got) == 3 {
				break
			}
		}
		require.Len(t, got[0].ID, 16)
		require.NotEqual(t, got[0].ID, got[2].ID)
		for i, want := range []client.Message{
			{Type: "chat", ID: got[0].ID, Content: []byte(`{}`)},
			{Type: "t", ID: "mine", Binary: []byte("b")},
			{Type: "chat", ID: got[2].ID, Content: []byte(`null`)},
		} {
			want.Sender, want.Room, want.Time = "alice", "lobby", now
			require.True(t, want.Time.Equal(got[i].Time))
			want.Time = got[i].Time
			require.Equal(t, want, got[i])
		}
	})
}

func TestSendRefuses(t *testing.T) {
	withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		ctx := t.Context()
		room := realtime.ToRoom("lobby")
		for name, test := range map[string]struct {
			to   realtime.Target
			msg  realtime.Message
			want error
		}{
			"only excepted": {realtime.Target{}.Except("conn_1"), realtime.Message{}, client.ErrTarget},
			"two rooms":     {realtime.ToRoom("a", "b"), realtime.Message{}, client.ErrTarget},
			"room and user": {room.Union(realtime.ToUser("bob")), realtime.Message{}, client.ErrTarget},
			"all and user":  {realtime.ToAll().Union(realtime.ToUser("bob")), realtime.Message{}, client.ErrTarget},
			"exception":     {room.Except("conn_1"), realtime.Message{}, client.ErrTarget},
			"all but one":   {realtime.ToAll().ExceptUser("bob"), realtime.Message{}, client.ErrTarget},
			"room":          {realtime.ToRoom("\xff"), realtime.Message{}, realtime.ErrInvalidName},
			"no name":       {realtime.ToRoom(""), realtime.Message{}, realtime.ErrInvalidName},
			"type":          {room, realtime.Message{Type: "\n"}, realtime.ErrInvalidName},
			"id":            {room, realtime.Message{ID: " "}, realtime.ErrInvalidName},
			"both":          {room, realtime.Message{Content: []byte("1"), Binary: []byte{}}, realtime.ErrInvalidMessage},
			"no JSON":       {room, realtime.Message{Content: []byte("{")}, realtime.ErrInvalidMessage},
			"two values":    {room, realtime.Message{Content: []byte("1 2")}, realtime.ErrInvalidMessage},
			"no UTF-8":      {room, realtime.Message{Content: []byte("\"\xff\"")}, realtime.ErrInvalidMessage},
			"large":         {room, realtime.Message{Binary: make([]byte, 65536)}, realtime.ErrTooLarge},
		} {
			require.ErrorIs(t, alice.Send(ctx, test.to, test.msg), test.want, name)
		}
		require.Equal(t, []client.Phase{client.Connecting, client.Open}, alice.takePhases(), "the connection is still open")
	})
}

func TestServerRefuses(t *testing.T) {
	o := realtime.Options{Authorize: func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
		if a.Target.All || a.Room == "secret" {
			return realtime.ErrForbidden
		}
		return nil
	}}
	withManager(t, o, func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		ctx := t.Context()
		room := realtime.ToRoom("lobby")
		require.Equal(t, "forbidden", codeOf(alice.Send(ctx, realtime.ToAll(), realtime.Message{})))
		require.Equal(t, "bad_request", codeOf(alice.Send(ctx, room, realtime.Message{Type: "welcome"})))
		require.Equal(t, "forbidden", codeOf(alice.Join(ctx, "secret")))
		require.ErrorIs(t, alice.Join(ctx, ""), realtime.ErrInvalidName)
		_, err := alice.FetchPresence(ctx, "secret")
		require.Equal(t, "forbidden", codeOf(err))
		_, err = client.Call[int](ctx, alice.Client, "dance", nil)
		require.Equal(t, "unknown_method", codeOf(err))
		_, err = client.Call[int](ctx, alice.Client, "", nil)
		require.ErrorIs(t, err, realtime.ErrInvalidName)
		_, err = client.Call[int](ctx, alice.Client, "dance", json.RawMessage("{"))
		require.ErrorIs(t, err, realtime.ErrInvalidMessage)
		_, err = client.Call[int](ctx, alice.Client, "dance", json.RawMessage(`"`+strings.Repeat("x", 65536)+`"`))
		require.ErrorIs(t, err, realtime.ErrTooLarge)
		require.Equal(t, []client.Phase{client.Connecting, client.Open}, alice.takePhases(), "the connection is still open")
	})
}

// TestSendToServer tests messages to the zero Target, with JSON and with bytes. One that is sent
// again over the next connection is handled once.
func TestSendToServer(t *testing.T) {
	var got []string
	pause := make(chan struct{})
	o := realtime.Options{OnMessage: func(_ context.Context, _ *realtime.Conn, in realtime.Inbound) (any, error) {
		if in.Message.Type == "lost" {
			return nil, &realtime.Error{Code: "lost", Message: "no such input"}
		}
		got = append(got, fmt.Sprintf("%s %s%q %t", in.Message.Type, in.Message.Content, in.Message.Binary,
			len(in.Target.Rooms) == 0))
		if in.Message.Type == "slow" {
			<-pause
		}
		return nil, nil
	}}
	withManager(t, o, func(t *testing.T, w *testEnv) {
		pause = make(chan struct{})
		alice := w.dial("alice")
		ctx := t.Context()
		require.NoError(t, alice.Send(ctx, realtime.Target{}, realtime.Message{Type: "input", Content: []byte("1")}))
		require.NoError(t, alice.Send(ctx, realtime.ToRoom(), realtime.Message{Type: "input", Binary: []byte{}}))
		require.NoError(t, alice.Send(ctx, realtime.ToRoom("r"), realtime.Message{Type: "input", Binary: []byte("\xff")}))
		receipt, err := alice.SendReceipt(ctx, realtime.Target{}, realtime.Message{Type: "input"})
		require.NoError(t, err)
		require.Zero(t, receipt)
		require.Equal(t, "lost", codeOf(alice.Send(ctx, realtime.Target{}, realtime.Message{Type: "lost"})))

		sent := make(chan error)
		go func() { sent <- alice.Send(ctx, realtime.Target{}, realtime.Message{Type: "slow"}) }()
		synctest.Wait()
		w.cutAll()
		alice.awaitReconnect()
		close(pause)
		require.NoError(t, <-sent)
		require.Equal(t, []string{`input 1"" true`, `input "" true`, `input "\xff" false`, `input "" true`, `slow "" true`}, got)
	})
}

// TestLargestMessage tests that the client sends a message of exactly the size that the server
// accepts.
func TestLargestMessage(t *testing.T) {
	withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		size := 65536
		send := func() error {
			return alice.Send(t.Context(), realtime.ToUser("bob"), realtime.Message{Binary: make([]byte, size)})
		}
		for errors.Is(send(), realtime.ErrTooLarge) {
			size--
		}
		require.Greater(t, size, 65000)
		require.Equal(t, []client.Phase{client.Connecting, client.Open}, alice.takePhases())
	})
}

// TestContextEndsWait tests that waiting methods return the cause of their context when it ends.
func TestContextEndsWait(t *testing.T) {
	withHandler(t, scripted(t, func(s *script, _ int) {
		for s.receive().Type != "gone" {
		}
	}), func(t *testing.T, w *testEnv) {
		alice := w.dialWith("alice", client.DialOptions{PendingSends: 1})
		why := errors.New("enough")
		for name, do := range map[string]func(ctx context.Context) error{
			"Send":          func(ctx context.Context) error { return alice.Send(ctx, realtime.ToAll(), realtime.Message{}) },
			"Join":          func(ctx context.Context) error { return alice.Join(ctx, "lobby") },
			"Leave":         func(ctx context.Context) error { return alice.Leave(ctx, "lobby") },
			"FetchPresence": func(ctx context.Context) error { _, err := alice.FetchPresence(ctx, "lobby"); return err },
			"Call": func(ctx context.Context) error {
				_, err := client.Call[int](ctx, alice.Client, "dance", nil)
				return err
			},
		} {
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, why)
			require.Equal(t, why, do(ctx), name)
			require.Equal(t, why, do(ctx), name)
			cancel()
		}
	})
}

func TestDuplicatesAreDropped(t *testing.T) {
	withHandler(t, scripted(t, func(s *script, n int) {
		if n == 1 {
			s.sendChat("1", "one")
			s.sendChat("1", "one")
			s.sendChat("2", "two")
			s.send(`{"message_type":"chat","sender_id":"carol","content":"of carol","timestamp":1,"id":"1"}`)
			s.send(`{"message_type":"chat","sender_id":null,"content":"of the server","timestamp":1,"id":"1"}`)
			s.send(`{"message_type":"chat","sender_id":null,"content":"of the server","timestamp":1,"id":"1"}`)
			for _, guest := range []string{"g1", "g2", "g1"} {
				s.send(fmt.Sprintf(`{"message_type":"chat","sender_id":null,"content":"of a guest","timestamp":1,`+
					`"guest":%q,"id":"1"}`, guest))
			}
			s.send(`{"message_type":"chat","sender_id":"bob","content":"no id","timestamp":1}`)
			s.send(`{"message_type":"chat","sender_id":"bob","content":"no id","timestamp":1}`)
			return
		}
		s.sendChat("2", "two")
		s.sendChat("3", "three")
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		alice.awaitReconnect()
		require.Equal(t, []string{
			`bob@lobby: "one"`, `bob@lobby: "two"`, `carol: "of carol"`, `: "of the server"`,
			`: "of a guest"`, `: "of a guest"`, `bob: "no id"`, `bob: "no id"`, `gap 1006`, `bob@lobby: "three"`,
		}, alice.received())
	})
}

func TestDeduplicationLimit(t *testing.T) {
	withHandler(t, scripted(t, func(s *script, _ int) {
		for i := range 10_000 {
			s.sendChat(strconv.Itoa(i), "x")
		}
		s.sendChat("0", "remembered")
		s.sendChat("10000", "new, and 0 is forgotten for it")
		s.sendChat("0", "shown again, and 1 is forgotten for it")
		s.sendChat("2", "remembered")
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dialWith("alice", client.DialOptions{QueueMessages: -1})
		n := len(alice.received())
		require.Equal(t, 10_002, n)
	})
}

// TestLargeFrameIsNoMessage tests that the announcement of a large frame is not delivered as a
// message.
func TestLargeFrameIsNoMessage(t *testing.T) {
	withHandler(t, scripted(t, func(s *script, _ int) {
		s.send(`{"message_type":"large","bytes":1000}`)
		s.send(`{"message_type":"large","sender_id":"bob","content":"shirt","timestamp":1}`)
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		require.Equal(t, []string{`large bob: "shirt"`}, w.dial("alice").received())
	})
}
