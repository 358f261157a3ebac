package realtimetest_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
	"github.com/realtime-go/realtime/realtimetest"
)

// talking returns a server that sends frames: the first one at once, and each other one when a
// message arrives.
func talking(t *testing.T, frames ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{realtime.V1}})
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = ws.CloseNow() }()
		for _, frame := range frames {
			if err := ws.Write(context.Background(), websocket.MessageText, []byte(frame)); err != nil {
				t.Error(err)
			}
			_, _, _ = ws.Read(context.Background())
		}
		_, _, _ = ws.Read(context.Background()) // the end
	})
}

// TestExpectPresence tests that a test can wait for presence, and for a refused state, which is not
// the loss of the room.
func TestExpectPresence(t *testing.T) {
	runInBubbleAndRealTime(t, func(t *testing.T) {
		srv := realtimetest.Serve(t, talking(t,
			`{"message_type":"welcome","content":{"max_message_bytes":65536},"timestamp":1}`,
			`{"message_type":"reply","id":1,"content":{"key":"a","show":"members"}}`,
			`{"message_type":"error","id":2,"content":{"code":"forbidden","message":""}}`,
			`{"message_type":"presence","room":"lobby","ver":1,"show":"members","user_count":1,"members":{"a":{}}}`,
			`{"message_type":"presence","room":"lobby","prev":1,"ver":2,"user_count":2,"members":{"b":{}}}`,
		))
		calls := make(chan string, 10)
		alice := srv.Dial("/", &client.DialOptions{
			OnPresence: func(room string, _ client.Presence, _ client.PresenceChange) { calls <- room },
		})
		require.NoError(t, alice.JoinWith(t.Context(), "lobby", client.JoinOptions{Presence: true}))
		require.NoError(t, alice.SetState("lobby", 1))
		for _, key := range []string{"k", "l"} {
			require.NoError(t, alice.Client.Send(t.Context(), realtime.ToRoom("lobby"), realtime.Message{Latest: key}))
		}
		require.Equal(t, "lobby", alice.ExpectStateRefused().Room)
		now := alice.ExpectPresence("lobby", func(p client.Presence) bool { return p.UserCount == 2 })
		require.Len(t, now.Members, 2)
		require.Equal(t, []string{"lobby", "lobby"}, []string{<-calls, <-calls})
	})
}

// TestPresenceOfManager tests that a test can follow a member that joins, says something, is lost
// and comes back, and that it gets the newest of the values of a key.
func TestPresenceOfManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &realtime.Options{Authorize: realtime.InsecureAllowAll, Show: realtime.ShowMembers}
		srv := realtimetest.New(t, o)
		alice, bob := srv.Connect("alice"), srv.Connect("bob")
		require.NoError(t, alice.JoinWith(t.Context(), "lobby", client.JoinOptions{Presence: true}))
		bob.Join("lobby")
		require.NoError(t, bob.SetState("lobby", 1))
		bobIs := func(away bool) func(client.Presence) bool {
			return func(now client.Presence) bool {
				return now.UserCount == 2 && string(now.Members[1].State) == "1" && now.Members[1].Away == away
			}
		}
		alice.ExpectPresence("lobby", bobIs(false))
		bob.DropNetwork()
		time.Sleep(35 * time.Second) // until the server detects it; bob is away 3 s later
		alice.ExpectPresence("lobby", bobIs(true))
		bob.Reconnect()
		alice.ExpectPresence("lobby", bobIs(false))

		for i := range 100 {
			shape, err := realtime.NewMessage("shape", i)
			require.NoError(t, err)
			shape.Latest = "a"
			_, err = srv.Manager.Send(t.Context(), realtime.ToRoom("lobby"), shape)
			require.NoError(t, err)
		}
		time.Sleep(time.Second)
		for n := 0; n < 99; {
			n = realtimetest.Expect[int](bob, "shape")
		}
	})
}
