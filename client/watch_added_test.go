package client_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/client"
)

// TestPresenceOfAnAddedRoom tests that a client watches a room to which the application has added
// it, although the server refuses its join: if the room was added before the join, or during it, and
// over the next connection.
func TestPresenceOfAnAddedRoom(t *testing.T) {
	const (
		added   = `{"message_type":"joined","room":"lobby"}`
		added5  = `{"message_type":"joined","room":"lobby","content":{"epoch":"r1","offset":5,"top":5}}`
		left    = `{"message_type":"left","room":"lobby"}`
		recover = `{"type":"recover","room":"lobby","presence":true}`
		from5   = `{"type":"recover","room":"lobby","presence":true,"since":{"epoch":"r1","offset":5}}`
		one     = `"ver":5,"show":"count","user_count":1,"connection_count":1`
	)
	refuse := func(s *script, before, during string) {
		if before != "" {
			s.send(before)
		}
		join := s.expect(watchLobby)
		if during != "" {
			s.send(during)
		}
		s.replyError(join, "forbidden")
	}
	yes := []string{"lobby count 1/1"}
	for name, test := range map[string]struct {
		do     func(s *script, n int)
		want   []string // reports of OnPresence
		errors []string
	}{
		"added before": {func(s *script, _ int) {
			refuse(s, added, "")
			s.reply(s.expect(recover), showsMe)
			s.presence(one)
		}, yes, nil},
		"added during the join": {func(s *script, _ int) {
			refuse(s, "", added)
			s.reply(s.expect(recover), showsMe)
			s.presence(one)
		}, yes, nil},
		"keeps history": {func(s *script, _ int) {
			refuse(s, added5, "")
			s.reply(s.expect(from5), recovered5)
			s.presence(one)
		}, yes, nil},
		"over connections": {func(s *script, n int) {
			if n == 1 {
				refuse(s, added, "")
				s.reply(s.expect(recover), showsMe)
				s.presence(one)
				time.Sleep(time.Second)
				_ = s.ws.CloseNow()
				return
			}
			s.send(added)
			s.reply(s.expect(`{"type":"recover","room":"lobby","presence":5}`), showsMe)
			s.presence(`"prev":5,"ver":6,"user_count":2`)
		}, append(yes, "lobby count 2/1"), nil},
		"refused": {func(s *script, _ int) {
			refuse(s, added5, "")
			s.replyError(s.expect(from5), "forbidden")
			s.reply(s.expect(`{"type":"recover","room":"lobby","since":{"epoch":"r1","offset":5}}`), recovered5)
			s.presence(one)
			s.sendKept(6, 5)
		}, nil, []string{"room lobby: forbidden", "bob@lobby: 6"}},
		"refused, without history": {func(s *script, _ int) {
			refuse(s, added, "")
			s.replyError(s.expect(recover), "forbidden")
			s.sendChat("1", "hi")
		}, nil, []string{"room lobby: forbidden", `bob@lobby: "hi"`}},
		"not added":       {func(s *script, _ int) { refuse(s, "", "") }, nil, nil},
		"not added yet":   {func(s *script, _ int) { refuse(s, "", ""); s.send(added) }, nil, nil},
		"no longer there": {func(s *script, _ int) { refuse(s, added, left) }, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			withHandler(t, scriptedWith(t, emptyInbox, func(s *script, n int) {
				test.do(s, n)
				s.serveUntilClosed()
			}), func(t *testing.T, w *testEnv) {
				events := make(chan string, 10)
				alice := w.dialWith("alice", client.DialOptions{
					OnPresence: func(room string, now client.Presence, c client.PresenceChange) {
						events <- describePresence(room, now, c)
					},
				})
				synctest.Wait()
				err := alice.JoinWith(t.Context(), "lobby", client.JoinOptions{Presence: true})
				require.Equal(t, "forbidden", codeOf(err))
				time.Sleep(10 * time.Second)
				require.Equal(t, test.errors, alice.receivedKept())
				close(events)
				var got []string
				for e := range events {
					got = append(got, e)
				}
				require.Equal(t, test.want, got)
				_, known := alice.Presence("lobby")
				require.Equal(t, got != nil, known)
			})
		})
	}
}

// TestServerPresenceOfAnAddedRoom tests the same with a Manager that lets nobody join.
func TestServerPresenceOfAnAddedRoom(t *testing.T) {
	for _, mayWatch := range []bool{true, false} {
		o := realtime.Options{Show: realtime.ShowMembers}
		o.Authorize = func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
			if a.Kind == realtime.ActionJoin || a.Kind == realtime.ActionMembers && !mayWatch {
				return realtime.ErrForbidden
			}
			return nil
		}
		withManager(t, o, func(t *testing.T, w *testEnv) {
			alice := w.dial("alice")
			_, err := w.rt.User("alice").Join(t.Context(), "lobby")
			require.NoError(t, err)
			err = alice.JoinWith(t.Context(), "lobby", client.JoinOptions{Presence: true})
			require.Equal(t, "forbidden", codeOf(err))
			time.Sleep(time.Second)
			now, known := alice.Presence("lobby")
			require.Equal(t, mayWatch, known)
			if !mayWatch {
				require.Equal(t, []string{"room lobby: forbidden"}, alice.received())
				return
			}
			require.Len(t, now.Members, 1)
			require.True(t, now.Members[0].Me)

			w.restart(o)
			alice.awaitReconnect()
			_, err = w.rt.User("alice").Join(t.Context(), "lobby")
			require.NoError(t, err)
			_, err = w.rt.Join(t.Context(), w.register("bob"), "lobby")
			require.NoError(t, err)
			time.Sleep(time.Second)
			now, _ = alice.Presence("lobby")
			require.Len(t, now.Members, 2)
		})
	}
}
