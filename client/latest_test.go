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

// value sends a latest value of a key in a room. An empty room is for the connection alone.
func (s *script) value(room, key, content string) {
	in := ""
	if room != "" {
		in = fmt.Sprintf(`"room":%q,`, room)
	}
	s.send(fmt.Sprintf(`{"message_type":"shape","sender_id":"bob","content":%s,"timestamp":1,%s"latest":%q}`,
		content, in, key))
}

// version says that the client has all values of a room up to a version.
func (s *script) version(room string, version int) {
	s.send(fmt.Sprintf(`{"message_type":"latest","room":%q,"ver":%d}`, room, version))
}

// TestLatestValuesForASlowConsumer tests that the newest value of each key waits for a consumer,
// at the place of the first one, and that values take no place of messages.
func TestLatestValuesForASlowConsumer(t *testing.T) {
	withHandler(t, scripted(t, func(s *script, _ int) {
		for i := range 1000 {
			s.value("lobby", "a", fmt.Sprint(i))
			s.value("hall", "a", fmt.Sprint(-i))
			s.value("", "a", fmt.Sprint(2*i))
			if i < 3 {
				s.sendChat(fmt.Sprint(i), fmt.Sprint(i))
			}
		}
		s.value("lobby", "b", "{}")
		s.value("lobby", "a", "null")
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dialPaused("alice", client.DialOptions{QueueMessages: 2})
		synctest.Wait()
		alice.startReading()
		require.Equal(t, []string{
			"shape bob@lobby: null", "shape bob@hall: -999", "shape bob: 1998", `bob@lobby: "0"`, `bob@lobby: "1"`,
			"gap dropped 1", "shape bob@lobby: {}",
		}, alice.received())
	})
}

// TestLatestValueFields tests what a consumer gets: the key, and neither an id nor a position.
func TestLatestValueFields(t *testing.T) {
	withHandler(t, scriptedWith(t, emptyInbox, func(s *script, _ int) {
		for range 2 {
			s.send(`{"message_type":"shape","sender_id":"bob","content":1,"timestamp":2,"room":"lobby","latest":"k",` +
				`"id":"x","epoch":"r1","offset":7,"prev":5}`)
			s.reply(s.receive(), "{}")
		}
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dialPaused("alice", client.DialOptions{})
		for range 2 {
			got, err := alice.Receive(t.Context())
			require.NoError(t, err)
			require.Equal(t, client.Message{
				Type: "shape", Sender: "bob", Room: "lobby", Latest: "k", Content: json.RawMessage("1"),
				Time: time.Unix(2, 0),
			}, got)
			_, err = alice.Ping(t.Context())
			require.NoError(t, err)
		}
	})
}

// TestLatestValuesOverConnections tests that the next join names the last version of the room, or 0
// if there are values and no version, and that values that do not exist any more are reported as
// removed.
func TestLatestValuesOverConnections(t *testing.T) {
	withHandler(t, scriptedWith(t, emptyInbox, func(s *script, n int) {
		switch n {
		case 1:
			s.replyEmpty(s.expect(joinLobby))
			s.value("lobby", "b", "2")
			s.value("lobby", "a", "1")
			s.value("lobby", "c", "3")
			s.value("lobby", "d", "4")
			s.value("lobby", "d", "null")
			s.value("hall", "a", "5")
			s.version("hall", 70)
			time.Sleep(time.Second)
		case 2: // there was no version
			s.replyEmpty(s.expect(`{"type":"join","room":"lobby","latest":0}`))
			s.version("lobby", 9)
			s.value("lobby", "a", "6")
			s.version("lobby", 12)
			s.send(`{"message_type":"latest","room":"lobby","ver":9007199254740992}`)
			time.Sleep(time.Second)
		case 3: // the server does not know the version, and its own are smaller
			s.replyEmpty(s.expect(`{"type":"join","room":"lobby","latest":12}`))
			s.send(`{"message_type":"latest","room":"lobby","keys":["b","e"]}`)
		case 4: // the values did not arrive
			s.replyEmpty(s.expect(`{"type":"join","room":"lobby","latest":0}`))
			s.value("lobby", "b", "7")
			s.value("lobby", "e", "8")
			s.version("lobby", 4)
			time.Sleep(time.Second)
		case 5: // the server does not know yet what the client has
			join := s.expect(`{"type":"join","room":"lobby","latest":4}`)
			s.version("lobby", 99)
			s.replyEmpty(join)
			time.Sleep(time.Second)
		default:
			s.replyEmpty(s.expect(`{"type":"join","room":"lobby","latest":4}`))
			s.replyEmpty(s.expect(`{"type":"leave","room":"lobby"}`))
			s.replyEmpty(s.expect(joinLobby))
			s.serveUntilClosed()
		}
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		alice.join("lobby")
		read := func() []string {
			synctest.Wait()
			return alice.receivedKept()
		}
		require.Equal(t, []string{"shape bob@lobby: 2", "shape bob@lobby: 1", "shape bob@lobby: 3"}, read()[:3])
		alice.awaitReconnect()
		require.Equal(t, []string{"shape bob@lobby: 6"}, read())
		alice.awaitReconnect()
		alice.awaitReconnect()
		require.Equal(t, []string{
			"shape @lobby: null", "shape @lobby: null", "shape bob@lobby: 7", "shape bob@lobby: 8",
		}, read())
		alice.awaitReconnect()
		alice.awaitReconnect()
		require.NoError(t, alice.Leave(t.Context(), "lobby"))
		alice.join("lobby")
		require.Empty(t, read())
	})
}

// TestLatestKeysForASlowConsumer tests that a value that waits and does not exist any more is
// replaced by its removal, with the type that it had.
func TestLatestKeysForASlowConsumer(t *testing.T) {
	withHandler(t, scripted(t, func(s *script, _ int) {
		s.replyEmpty(s.expect(joinLobby))
		s.value("lobby", "a", "1")
		s.value("lobby", "b", "2")
		for _, broken := range []string{
			`"room":"lobby"`, `"room":"lobby","keys":null`, `"room":"lobby","keys":{}`, `"room":"lobby","keys":[1]`,
			`"room":"hall","keys":[]`, `"keys":[]`, `"room":7,"keys":[]`, `"room":"lobby","ver":-1`,
			`"room":"hall","ver":7`, `"ver":7`, `"room":"lobby","ver":{},"keys":[]`,
		} {
			s.send(`{"message_type":"latest",` + broken + `}`)
		}
		s.send(`{"message_type":"latest","room":"lobby","keys":["b"]}`)
		s.send(`{"message_type":"shape","content":1,"room":"lobby","latest":7}`)
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dialPaused("alice", client.DialOptions{})
		alice.join("lobby")
		synctest.Wait()
		got, err := alice.Receive(t.Context())
		require.NoError(t, err)
		require.Equal(t, client.Message{Type: "shape", Room: "lobby", Latest: "a", Content: json.RawMessage("null")}, got)
		alice.startReading()
		require.Equal(t, []string{"shape bob@lobby: 2"}, alice.received())
	})
}

// shape is a latest value.
func shape(key string, content any) realtime.Message {
	p, _ := json.Marshal(content)
	return realtime.Message{Type: "shape", Content: p, Latest: key}
}

// TestSendLatest tests that Send does not wait for an answer, and that while there is no
// connection the newest value of each key and target waits for the next one.
func TestSendLatest(t *testing.T) {
	withHandler(t, scripted(t, func(s *script, n int) {
		if n == 1 {
			s.expect(`{"type":"send","room":"lobby","message_type":"shape","latest":"a","content":0}`)
			return
		}
		s.expect(`{"type":"send","room":"lobby","message_type":"shape","latest":"a","content":99}`)
		s.expect(`{"type":"send","room":"lobby","message_type":"shape","latest":"b","content":99}`)
		s.expect(`{"type":"send","room":"hall","message_type":"shape","latest":"a","content":99}`)
		s.expect(`{"type":"send","conn":"c","message_type":"shape","latest":"a","content":99}`)
		s.replyEmpty(s.expect(`{"type":"ping"}`))
		s.expect(`{"type":"send","room":"lobby","message_type":"shape","latest":"a","content":1}`)
		s.send(`{"message_type":"error","id":null,"content":{"code":"forbidden","message":"","message_type":"shape"}}`)
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dialWith("alice", client.DialOptions{PendingRequests: 4})
		lobby := realtime.ToRoom("lobby")
		require.NoError(t, alice.Send(t.Context(), lobby, shape("a", 0)))
		synctest.Wait()
		for i := range 100 {
			require.NoError(t, alice.Send(t.Context(), lobby, shape("a", i)))
			require.NoError(t, alice.Send(t.Context(), lobby, shape("b", i)))
			require.NoError(t, alice.Send(t.Context(), realtime.ToRoom("hall"), shape("a", i)))
			require.NoError(t, alice.Send(t.Context(), realtime.ToConn("c"), shape("a", i)))
		}
		require.ErrorIs(t, alice.Send(t.Context(), lobby, shape("c", 0)), client.ErrFull)
		_, err := alice.Ping(t.Context())
		require.NoError(t, err)
		require.NoError(t, alice.Send(t.Context(), lobby, shape("a", 1)))
		require.Equal(t, []string{"gap 1006"}, alice.received())
		require.NoError(t, alice.Close())
		require.ErrorIs(t, alice.Send(t.Context(), lobby, shape("a", 1)), realtime.ErrClosed)
	})
}

// TestLatestValueIsRefused tests that a value that cannot be sent is an error.
func TestLatestValueIsRefused(t *testing.T) {
	withHandler(t, scripted(t, func(s *script, _ int) { s.serveUntilClosed() }), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		room := realtime.ToRoom("lobby")
		for name, test := range map[string]struct {
			to   realtime.Target
			msg  realtime.Message
			want error
		}{
			"id":        {room, realtime.Message{Latest: "k", ID: "x"}, realtime.ErrInvalidMessage},
			"ttl":       {room, realtime.Message{Latest: "k", TTL: 1}, realtime.ErrInvalidMessage},
			"ephemeral": {room, realtime.Message{Latest: "k", Ephemeral: true}, realtime.ErrInvalidMessage},
			"key":       {room, realtime.Message{Latest: strings.Repeat("k", 65)}, realtime.ErrInvalidName},
			"user":      {realtime.ToUser("bob"), realtime.Message{Latest: "k"}, client.ErrTarget},
			"all":       {realtime.ToAll(), realtime.Message{Latest: "k"}, client.ErrTarget},
			"server":    {realtime.Target{}, realtime.Message{Latest: "k"}, client.ErrTarget},
			"two rooms": {realtime.ToRoom("a", "b"), realtime.Message{Latest: "k"}, client.ErrTarget},
			"too large": {room, shape("k", strings.Repeat("x", 65536)), realtime.ErrTooLarge},
		} {
			require.ErrorIs(t, alice.Send(t.Context(), test.to, test.msg), test.want, name)
		}
		_, err := alice.SendReceipt(t.Context(), room, shape("k", 1))
		require.ErrorIs(t, err, realtime.ErrInvalidMessage)
	})
}

// TestLatestValuesOfASession tests that values for the connection end with its session: the client
// reports them as removed, unless they have arrived over the new connection.
func TestLatestValuesOfASession(t *testing.T) {
	one := func(s *script) {
		time.Sleep(time.Millisecond) // until the program has the values before
		s.value("", "a", "1")
	}
	for name, test := range map[string]struct {
		do   []func(s *script) // over each connection; the first gives values of a and b
		want []string          // after that, in any order
	}{
		"resumed": {[]func(s *script){func(s *script) {
			s.send(`{"message_type":"latest","keys":["b"]}`)
			s.reply(s.expect(`{"type":"resume","session":"s1"}`), `{"rooms":[]}`)
		}}, []string{"a null"}},
		"refused": {[]func(s *script){func(s *script) {
			one(s)
			s.value("", "c", "3")
			s.replyError(s.expect(`{"type":"resume","session":"s1"}`), "session")
			s.value("", "d", "4")
		}}, []string{"a 1", "c 3", "b null", "d 4"}},
		"refused, and resumed later": {[]func(s *script){func(s *script) {
			s.replyError(s.expect(`{"type":"resume","session":"s1"}`), "session")
			one(s)
		}, func(s *script) {
			s.replyEmpty(s.expect(`{"type":"resume","session":"s2"}`))
		}}, []string{"a null", "b null", "a 1"}},
		"not answered": {[]func(s *script){func(s *script) {
			s.expect(`{"type":"resume","session":"s1"}`)
		}, func(s *script) {
			s.replyEmpty(s.expect(`{"type":"resume","session":"s2"}`))
			one(s)
		}}, []string{"a null", "b null", "a 1"}},
		"server goes away": {[]func(s *script){func(s *script) {
			one(s)
		}}, []string{"a null", "b null", "a 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			sessions := func(n int) string { return emptyInbox(n) + fmt.Sprintf(`,"session":"s%d"`, n) }
			withHandler(t, scriptedWith(t, sessions, func(s *script, n int) {
				switch {
				case n > 1:
					test.do[n-2](s)
				default:
					s.value("", "a", "0")
					s.value("", "b", "0")
				}
				switch {
				case n > len(test.do):
					s.serveUntilClosed()
				case name == "server goes away":
					_ = s.ws.Close(1001, "")
				default:
					time.Sleep(time.Second) // then everything has arrived
				}
			}), func(t *testing.T, w *testEnv) {
				alice := w.dialPaused("alice", client.DialOptions{})
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				next := func(n int) (all []string) {
					for range n {
						m, err := alice.Receive(ctx)
						require.NoError(t, err)
						require.Empty(t, m.Room)
						all = append(all, m.Latest+" "+string(m.Content))
					}
					return all
				}
				require.Equal(t, []string{"a 0", "b 0"}, next(2))
				require.ElementsMatch(t, test.want, next(len(test.want)))
				alice.startReading()
				time.Sleep(10 * time.Second) // there may be another connection
				require.Empty(t, alice.receivedKept())
			})
		})
	}
}

// TestServerLatestOfAnotherSession tests the same with a server that is restarted.
func TestServerLatestOfAnotherSession(t *testing.T) {
	withManager(t, realtime.Options{}, func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		for c := range w.rt.User("alice").LocalConns() {
			_, err := w.rt.Send(t.Context(), realtime.ToConn(c.ID()), shape("a", 1))
			require.NoError(t, err)
		}
		require.Equal(t, []string{"shape : 1"}, alice.received())
		w.restart(realtime.Options{})
		alice.awaitReconnect()
		require.Equal(t, []string{"gap 1012", "shape : null"}, alice.received())
	})
}

// TestGapInARoomWithValues tests that a client that asks for messages over the same connection does
// not ask for the values that it has.
func TestGapInARoomWithValues(t *testing.T) {
	withHandler(t, scripted(t, func(s *script, _ int) {
		s.reply(s.expect(joinLobby), at5)
		s.value("lobby", "a", "1")
		s.sendKept(7, 6)
		s.reply(s.expect(joinLobby5), recovered5)
		s.sendKept(6, 5, 7, 6)
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		alice.join("lobby")
		require.Equal(t, []string{"shape bob@lobby: 1", "bob@lobby: 6", "bob@lobby: 7"}, alice.received())
	})
}

// TestRefusalsWithoutID tests that the client yields what the server has refused of a room, also
// while it reads nothing, and that the membership lasts.
func TestRefusalsWithoutID(t *testing.T) {
	refuse := func(s *script, more string) {
		s.send(`{"message_type":"error","id":null,"content":{"code":"forbidden","message":"no"` + more + `}}`)
	}
	withHandler(t, scripted(t, func(s *script, _ int) {
		join := s.expect(joinLobby)
		refuse(s, `,"room":"lobby"`) // answers nothing
		s.replyEmpty(join)
		for range 100 {
			refuse(s, `,"message_type":"shape","room":"hall"`)
			refuse(s, `,"message_type":"shape"`)
			refuse(s, `,"room":7`)
			refuse(s, `,"message_type":"shape","room":"lobby"`)
		}
		s.replyEmpty(s.expect(`{"type":"ping"}`))
		ping := s.expect(`{"type":"ping"}`)
		refuse(s, `,"room":"lobby"`)
		for i := range 10 {
			refuse(s, fmt.Sprintf(`,"room":"%d"`, i))
		}
		s.replyEmpty(ping)
		s.replyEmpty(s.expect(`{"type":"state","room":"lobby","state":1}`))
		s.serveUntilClosed()
	}), func(t *testing.T, w *testEnv) {
		alice := w.dialPaused("alice", client.DialOptions{QueueMessages: 4})
		alice.join("lobby")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		next := func() string {
			_, err := alice.Receive(ctx)
			var refusal *client.RoomError
			require.ErrorAs(t, err, &refusal)
			require.True(t, refusal.Member)
			return describeError(err)
		}
		_, err := alice.Ping(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{"room lobby: forbidden", "room hall: forbidden"}, []string{next(), next()})
		_, err = alice.Ping(t.Context())
		require.NoError(t, err)
		require.NoError(t, alice.SetState("lobby", 1))
		alice.startReading()
		require.Equal(t, []string{
			"room lobby: forbidden", "room 0: forbidden", "room 1: forbidden", "room 2: forbidden",
		}, alice.received())
	})
}

// TestServerRefusesAValue tests that a client learns that a Manager has refused a value.
func TestServerRefusesAValue(t *testing.T) {
	denied := func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
		if a.Kind == realtime.ActionSend {
			return realtime.ErrForbidden
		}
		return nil
	}
	withManager(t, realtime.Options{Authorize: denied}, func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		alice.join("lobby")
		require.NoError(t, alice.Send(t.Context(), realtime.ToRoom("lobby"), shape("a", 1)))
		require.Equal(t, []string{"room lobby: forbidden"}, alice.received())
	})
}
