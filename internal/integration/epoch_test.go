package integration_test

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/memory"
)

// loseStream deletes the messages of all streams. A stream that is subscribed starts with another
// epoch.
func (fb *fakeBroker) loseStream(t *testing.T, stream string) {
	fb.Broker = memory.New(nil)
	require.NoError(t, fb.Broker.Open(t.Context(), fb))
	_, err := fb.Broker.Subscribe(t.Context(), stream)
	require.NoError(t, err)
}

// After an inbox has lost its messages, its new messages reach the clients that are connected.
func TestInboxWithAnotherEpoch(t *testing.T) {
	for _, proto := range [][]string{{realtime.V1}, nil} {
		o := inboxes(100)
		fb := newFakeBroker()
		o.Broker = fb
		bubble(t, o, func(t *testing.T, b *bed) {
			transport, far := realtime.Pipe(proto...)
			bob := b.attach(transport, far, realtime.Identity{UserID: "bob"})
			bob.unstall()
			b.sendToInbox("bob", 1, 2)
			bob.discard()
			stream := broker.InboxStream("bob")
			fb.withoutDelivery(func() {
				fb.loseStream(t, stream)
				b.sendToInbox("bob", 3, 4)
			})
			fb.Lost(stream)
			b.sendToInbox("bob", 5, 5)
			var said []string
			frames := bob.raw()
			for _, frame := range frames {
				var f keptFrame
				require.NoError(t, json.Unmarshal([]byte(frame), &f))
				if f.Type == "news" {
					said = append(said, strings.Trim(string(f.Content), `"`))
				}
			}
			require.Equal(t, words(3, 5), said)
			if proto != nil {
				require.Contains(t, frames[0], `"offset":0`)
				require.Contains(t, frames[0], `"reason":"epoch"`)
			}
		})
	}
}

// After a room has lost its messages, its new messages reach members that stay connected, that join
// again with their position, and that resume their session.
func TestRoomWithAnotherEpoch(t *testing.T) {
	for name, how := range map[string]func(b *bed, alice *client, join, session string) *client{
		"live": func(_ *bed, alice *client, _, _ string) *client { return alice },
		"joins again": func(b *bed, alice *client, join, _ string) *client {
			require.NoError(b.t, alice.Write([]byte(join)))
			return alice
		},
		"reconnects": func(b *bed, alice *client, join, _ string) *client {
			alice.Drop()
			again := b.openV1(realtime.Identity{UserID: "alice"})
			again.discard()
			require.NoError(b.t, again.Write([]byte(join)))
			return again
		},
		"resumes": func(b *bed, alice *client, join, session string) *client {
			alice.Drop()
			synctest.Wait()
			again, _ := b.session("alice")
			require.Contains(b.t, again.resumes(session), "hall")
			require.NoError(b.t, again.Write([]byte(join)))
			return again
		},
	} {
		t.Run(name, func(t *testing.T) {
			fb := newFakeBroker()
			o := keeping(100)
			o.Broker = fb
			bubble(t, o, func(t *testing.T, b *bed) {
				alice, w := b.session("alice")
				r := &streamClient{t: t}
				r.receive(alice.request(`{"type":"join","id":1,"room":"hall"}`))
				b.sendWords(1, 2)
				r.receive(alice.raw())
				join := `{"type":"join","id":2,"room":"hall"` + since(r.at) + `}`
				fb.withoutDelivery(func() {
					fb.loseStream(t, broker.RoomStream("hall"))
					b.sendWords(3, 4)
				})
				fb.Lost(broker.RoomStream("hall"))
				alice = how(b, alice, join, w.Session)
				b.sendWords(5, 5)
				var said, reasons []string
				for _, text := range alice.raw() {
					var f keptFrame
					require.NoError(t, json.Unmarshal([]byte(text), &f))
					var a joinAnswer
					_ = json.Unmarshal(f.Content, &a)
					if reason := f.Reason + a.Reason; reason != "" {
						reasons = append(reasons, reason)
						said = nil // messages before the answer come again
					}
					if f.Type == "news" {
						said = append(said, strings.Trim(string(f.Content), `"`))
					}
				}
				require.Equal(t, words(3, 5), said)
				require.Contains(t, reasons, "epoch")
			})
		})
	}
}
