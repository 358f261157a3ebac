package integration_test

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
)

// A message that is sent again over another connection is delivered once. Messages that the client
// sends after it are delivered after it, even if the first connection is still handling it.
func TestResentMessage(t *testing.T) {
	var rt *realtime.Manager
	o := realtime.Options{OnMessage: func(ctx context.Context, c *realtime.Conn, in realtime.Inbound) (any, error) {
		if string(in.Message.Content) == "1" {
			time.Sleep(time.Second)
		}
		_, err := rt.Send(ctx, in.Target, in.Message)
		return nil, err
	}}
	bubble(t, o, func(t *testing.T, b *bed) {
		rt = b.Manager
		id := realtime.Identity{UserID: "alice"}
		first, bob := b.openV1(id), b.open("bob")
		bob.discard()
		send := func(c *client, n int) {
			require.NoError(t, c.Write(fmt.Appendf(nil, `{"type":"send","id":%d,"user":"bob","content":%d,"message_id":"m%d"}`, n, n, n)))
		}
		send(first, 1)
		send(first, 2)
		synctest.Wait()
		first.Drop()
		second := b.openV1(id)
		second.discard()
		for n := range 3 {
			send(second, n+1)
		}
		time.Sleep(time.Minute)
		require.Equal(t, []string{"chat 1", "chat 2", "chat 3"}, bob.got())
		require.Len(t, second.raw(), 3)
		mallory := b.openV1(realtime.Identity{UserID: "mallory"})
		send(mallory, 1)
		time.Sleep(time.Minute)
		require.Equal(t, []string{"chat 1"}, bob.got(), "ids are scoped to the sender")
	})
}

// A message id is scoped to its sender: an anonymous client cannot use up the ids of the
// application, of users or of other anonymous clients. A client that resumes its session stays the
// same sender.
func TestMessageIDsAreScopedToTheSender(t *testing.T) {
	for name, o := range map[string]realtime.Options{"plain room": {}, "history": keeping(100)} {
		t.Run(name, func(t *testing.T) {
			bubble(t, o, func(t *testing.T, b *bed) {
				bob := b.openV1(realtime.Identity{UserID: "bob"})
				eve := b.openV1(realtime.Identity{UserID: "eve"})
				b.join("lobby", bob, eve)
				send := func(c *client, content string) string {
					frames := c.request(`{"type":"send","id":1,"room":"lobby","message_id":"x","content":` + content + `}`)
					require.NotEmpty(t, frames)
					return frames[len(frames)-1]
				}
				const ok = `{"message_type":"reply","id":1}`
				one, w := b.session("")
				two, _ := b.session("")
				require.Equal(t, ok, send(one, `"one"`))
				require.Equal(t, ok, send(two, `"two"`))
				require.Equal(t, ok, send(bob, `"bob"`))
				res, err := b.Send(t.Context(), realtime.ToRoom("lobby"),
					realtime.Message{ID: "x", Content: json.RawMessage(`"server"`)})
				require.NoError(t, err)
				require.False(t, res.Duplicate)

				one.Drop()
				again, _ := b.session("")
				again.resumes(w.Session)
				require.Equal(t, ok, send(again, `"one again"`))
				require.Equal(t, ok, send(bob, `"bob again"`))

				var contents []string
				guests := map[string]bool{}
				for _, frame := range eve.raw() {
					var m struct {
						ID      string
						Guest   string
						Content json.RawMessage
					}
					require.NoError(t, json.Unmarshal([]byte(strings.Replace(frame, `"timestamp":T`, `"timestamp":0`, 1)), &m))
					if m.ID == "x" {
						contents = append(contents, string(m.Content))
						guests[m.Guest] = true
					}
				}
				require.Equal(t, []string{`"one"`, `"two"`, `"bob"`, `"server"`}, contents)
				require.Len(t, guests, 3, "two anonymous senders, bob and the application")
			})
		})
	}
}

// The broker remembers the id longer than this process, which may be a new one.
func TestReplyToARepeatedMessage(t *testing.T) {
	bubble(t, inboxes(100), func(t *testing.T, b *bed) {
		m := realtime.Message{Type: "chat", Sender: "alice", ID: "x", Content: []byte(`1`)}
		_, err := b.Send(t.Context(), realtime.ToUser("bob"), m)
		require.NoError(t, err)
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		answer := alice.request(`{"type":"send","id":1,"user":"bob","message_id":"x","content":1,"receipt":true}`)
		require.Equal(t, []string{`{"message_type":"reply","id":1,"content":{"kept":true,"queued":0,"duplicate":true}}`}, answer)
	})
}

func TestDuplicatesInAStream(t *testing.T) {
	bubble(t, keeping(100), func(t *testing.T, b *bed) {
		alice, r := b.follow("alice", "")
		m := realtime.Message{Type: "news", ID: "1", Content: json.RawMessage(`"once"`)}
		first, err := b.Send(t.Context(), realtime.ToRoom("hall"), m)
		require.NoError(t, err)
		again, err := b.Send(t.Context(), realtime.ToRoom("hall"), m)
		require.NoError(t, err)
		require.True(t, again.Duplicate)
		require.Equal(t, first.Position, again.Position)
		require.Zero(t, again.Kept)
		r.receive(alice.raw())
		require.Equal(t, []string{"once"}, r.takeWords())
	})
}

// A sender cannot make a stream forget the ids of other senders.
func TestIDsOfOtherSendersAreKept(t *testing.T) {
	o := inboxes(5)
	bubble(t, o, func(t *testing.T, b *bed) {
		send := func(sender, id string) bool {
			res, err := b.Send(t.Context(), realtime.ToUser("bob"), realtime.Message{Sender: sender, ID: id})
			require.NoError(t, err)
			return res.Duplicate
		}
		b.open("bob") // takes them
		require.False(t, send("alice", "1"))
		for i := range 10_100 {
			send("mallory", fmt.Sprint(i))
			if i%3 == 0 {
				synctest.Wait()
			}
		}
		time.Sleep(2*time.Minute - time.Second)
		require.True(t, send("alice", "1"))
		time.Sleep(2 * time.Second)
		send("mallory", "next")
		require.False(t, send("alice", "1"))
	})
}
