package main

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/realtimetest"
)

func TestBot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := realtimetest.New(t, &realtime.Options{
			Authorize: realtime.InsecureAllowAll, Show: realtime.ShowMembers,
		})
		srv.Connect("dave").Join("lobby") // nobody greets dave
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- run(ctx, srv.URL("/?user_id=bot"), "lobby", srv.DialOptions()) }()
		synctest.Wait()
		alice := srv.Connect("alice")
		expectText := func(want string) {
			t.Helper()
			var content struct{ Content string }
			require.NoError(t, json.Unmarshal(alice.Expect("chat").Content, &content))
			require.Equal(t, want, content.Content)
		}
		alice.Join("lobby")
		expectText("Hello, alice!")
		srv.Connect("alice").Join("lobby") // nor a second device
		alice.Send(realtime.ToRoom("lobby"), "chat", map[string]string{"content": "bot, hi"})
		expectText("bot, hi")
		expectText("alice says hi")
		alice.ExpectNone("chat")
		stop()
		require.ErrorIs(t, <-done, realtime.ErrClosed)
	})
}
