package client_test

import (
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
			join := s.expect(`{"type":"join","room":"lobby","latest":0}`)
			s.version("lobby", 99) // not of what this client has
			s.replyEmpty(join)
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
			s.value("lobby", "e", "8")
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
			"shape @lobby: null", "shape @lobby: null", "shape bob@lobby: 7", "shape bob@lobby: 8", "shape bob@lobby: 8",
		}, read())
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
