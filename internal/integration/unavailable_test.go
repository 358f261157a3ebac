package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/realtimetest"
)

// A node that is cut off says so, in a way after which clients come back.
func TestNodeRefusesWhileItIsCutOff(t *testing.T) {
	o := keepingIn("kept")
	o.Inbox.Keep.Messages = 100
	cluster(t, 2, o, func(t *testing.T, ns *nodes) {
		one := ns.beds[0]
		alice := one.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		ns.engine.Cut(ns.buses[0], true)
		require.Equal(t, []string{`{"message_type":"error","id":1,"content":` +
			`{"code":"unavailable","message":"temporarily unavailable","retry_ms":1000}}`},
			alice.request(`{"type":"join","id":1,"room":"kept"}`))
		h := one.API(realtime.InsecureAllowRequests)
		for _, call := range []restRequest{
			{method: "POST", path: "/connections/" + alice.conn.ID() + "/join", body: `{"room_id":"kept"}`},
			{method: "GET", path: "/rooms/plain/users"},
		} {
			code, body, header := callREST(h, call)
			require.Equal(t, http.StatusServiceUnavailable, code, call.path)
			require.Equal(t, `{"error":"room unavailable"}`, body)
			require.Equal(t, "5", header.Get("Retry-After"))
		}
		for _, protocols := range [][]string{nil, {realtime.V1}} {
			transport, far := realtime.Pipe(protocols...)
			bob := one.attach(transport, far, realtime.Identity{UserID: "bob"})
			bob.unstall()
			require.ErrorIs(t, bob.err, realtime.ErrUnavailable)
			bob.requireEnd(realtime.CloseLater)
			require.Empty(t, bob.raw(), "a client whose inbox has no position would begin anew")
		}
		require.True(t, realtime.CloseLater.ComeBack())
		ns.engine.Cut(ns.buses[0], false)
		one.open("bob")
		require.Contains(t, alice.request(`{"type":"join","id":2,"room":"kept"}`)[0], `"reply"`)
	})
}

// An application that cannot join a connection to its rooms sends its client away for a time only.
func TestNodeIsCutOffInOnConnect(t *testing.T) {
	o := keepingIn("kept")
	o.OnConnect = func(ctx context.Context, c *realtime.Conn) error {
		_, err := c.Join(ctx, "kept")
		return err
	}
	cluster(t, 2, o, func(t *testing.T, ns *nodes) {
		one := ns.beds[0]
		ns.engine.Cut(ns.buses[0], true)
		one.dial("bob").requireEnd(realtime.CloseLater)
		ns.engine.Cut(ns.buses[0], false)
		time.Sleep(time.Second)
		one.open("bob")
	})
}

// A connection that catches up stays open while its node is cut off, and reads on after that.
func TestNodeIsCutOffWhileClientsCatchUp(t *testing.T) {
	o := inboxes(1000)
	o.Limits.QueueMessages = 16
	cluster(t, 2, o, func(t *testing.T, ns *nodes) {
		one := ns.beds[0]
		bob := one.stalled("bob")
		one.fillQueue(realtime.ToUser("bob"), 0, 0)
		for n := range 800 {
			one.news(realtime.ToUser("bob"), fmt.Sprint(n))
		}
		ns.engine.Cut(ns.buses[0], true)
		bob.unstall()
		time.Sleep(20 * time.Second)
		require.Nil(t, bob.ended())
		got := bob.news()
		require.Less(t, len(got), 800)
		ns.engine.Cut(ns.buses[0], false)
		time.Sleep(2 * time.Second)
		got = append(got, bob.news()...)
		require.Len(t, got, 1+800)
		for n, content := range got[1:] {
			require.Equal(t, fmt.Sprintf(`"%d"`, n), content)
		}
	})
}

// What a client sends to a room that keeps it, and its join, succeed after an outage of its node.
func TestNodeIsCutOffFromItsClient(t *testing.T) {
	o := keepingIn("kept", "kept too")
	o.Authenticate = realtime.InsecureQueryUser
	cluster(t, 2, o, func(t *testing.T, ns *nodes) {
		one, two := ns.two()
		bob := two.openV1(realtime.Identity{UserID: "bob"})
		two.join("kept", bob)
		bob.discard()
		alice := realtimetest.Serve(t, one.Manager).Dial("/?user_id=alice", nil)
		alice.Join("kept")
		ns.engine.Cut(ns.buses[0], true)
		ended := make(chan error, 2)
		go func() {
			ended <- alice.Client.Send(t.Context(), realtime.ToRoom("kept"), realtime.Message(note("late")))
		}()
		go func() { ended <- alice.Client.Join(t.Context(), "kept too") }()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Empty(t, ended)
		require.Empty(t, bob.news())
		alice.Send(realtime.ToRoom("plain"), "chat", "meanwhile")
		ns.engine.Cut(ns.buses[0], false)
		for range cap(ended) {
			require.NoError(t, <-ended)
		}
		time.Sleep(time.Minute)
		require.Equal(t, []string{`"late"`}, bob.news())
		page, err := two.Room("kept").History(t.Context(), realtime.HistoryQuery{})
		require.NoError(t, err)
		require.Len(t, page.Messages, 1)
		two.news(realtime.ToRoom("kept too"), "to who has joined")
		alice.Expect("news")
		require.NoError(t, alice.Close())
	})
}
