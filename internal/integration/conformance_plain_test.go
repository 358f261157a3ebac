package integration_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// The frames of the plain protocol, byte for byte: clients may compare them.
func TestPlainFrames(t *testing.T) {
	bubble(t, announced(), func(t *testing.T, b *bed) {
		bob := b.open("bob")
		ann := b.open("ann")
		b.join("lobby", bob)
		bob.discard()
		_, err := b.Join(t.Context(), ann.conn.ID(), "lobby")
		require.NoError(t, err)
		anon := b.open("")
		_, err = b.Join(t.Context(), anon.conn.ID(), "lobby")
		require.NoError(t, err)
		ann.say(`hi "all" <é>`, "room")
		anon.say("psst", "bob")
		require.NoError(t, ann.Write([]byte("ping")))
		synctest.Wait()
		_, err = b.Leave(t.Context(), ann.conn.ID(), "lobby")
		require.NoError(t, err)
		require.NoError(t, ann.Close(1000, ""))

		now := "946684800" // the start of the clock in a bubble
		require.Equal(t, []string{
			`{"message_type":"systemnotification","sender_id":"ann","content":{"type":"room_join",` +
				`"user_id":"ann","room_id":"lobby","message":"User joined room lobby"},"timestamp":` + now + `}`,
			`{"message_type":"systemnotification","sender_id":null,"content":{"type":"room_join",` +
				`"user_id":null,"room_id":"lobby","message":"User joined room lobby"},"timestamp":` + now + `}`,
			`{"message_type":"systemnotification","sender_id":"ann","content":{"type":"room_leave",` +
				`"user_id":"ann","room_id":"lobby","message":"User left room lobby"},"timestamp":` + now + `}`,
			`{"message_type":"userleft","sender_id":"ann","content":{"user_id":"ann",` +
				`"message":"User ann left"},"timestamp":` + now + `}`,
		}, withoutChats(bob.raw()))

		frames := ann.raw()
		require.Equal(t, `{"message_type":"welcome","sender_id":null,"content":{"connection_id":"`+
			ann.conn.ID()+`","message":"Connected successfully"},"timestamp":`+now+`}`, frames[0])
		require.Contains(t, frames, "pong")
		require.JSONEq(t, `{"message_type":"chat","sender_id":"ann","content":{"type":"chat_message",`+
			`"sender_id":"ann","content":"hi \"all\" <é>","timestamp":`+now+`},"timestamp":`+now+`}`,
			onlyChats(anon.raw())[0])
		require.Regexp(t, `^conn_[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`,
			ann.conn.ID())
	})
}

func withoutChats(frames []string) []string { return filter(frames, false) }
func onlyChats(frames []string) []string    { return filter(frames, true) }

func filter(frames []string, chats bool) (kept []string) {
	for _, f := range frames {
		if strings.Contains(f, `"message_type":"chat"`) == chats {
			kept = append(kept, f)
		}
	}
	return kept
}

func TestChatTargets(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice, bob, bob2, carol := b.open("alice"), b.open("bob"), b.open("bob"), b.open("carol")
		b.join("lobby", alice, bob)
		all := []*client{alice, bob, bob2, carol}
		for _, c := range all {
			c.discard()
		}
		for _, test := range []struct {
			name, target string
			from         *client
			want         []*client
		}{
			{"all, the sender too", "all", carol, all},
			{"room, the sender too", "room", alice, []*client{alice, bob}},
			{"a user's every tab, no echo", "bob", alice, []*client{bob, bob2}},
			{"oneself", "alice", alice, []*client{alice}},
			{"a user that is not connected", "dave", alice, nil},
			{"nobody can be called so", "\x00", alice, nil},
			{"nobody at all", "", alice, nil},
			{"without a room: general, where nobody is", "room", carol, nil},
		} {
			before := b.Stats().Messages
			test.from.say("hi", test.target)
			for _, c := range all {
				want := []string{}
				for _, w := range test.want {
					if w == c {
						want = append(want, test.from.conn.UserID()+": hi")
					}
				}
				require.Equal(t, want, c.got(), test.name)
			}
			require.Equal(t, before+1, b.Stats().Messages, "%s: counted once", test.name)
		}
	})
}

func TestChatOfNonMemberGoesToGeneral(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		member, stranger := b.open("member"), b.open("stranger")
		b.join(realtime.DefaultRoom, member)
		stranger.discard()
		stranger.say("hi", "room")
		require.Equal(t, []string{"stranger: hi"}, member.got())
		require.Empty(t, stranger.got(), "not a member")
	})
}

func TestCurrentRoomIsTheOneJoinedLast(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice := b.open("alice")
		inA, inB := b.open("a"), b.open("b")
		b.join("A", inA, alice)
		b.join("B", inB, alice)
		inA.discard()
		alice.say("1", "room")
		require.Empty(t, inA.got())
		require.Equal(t, []string{"alice: 1"}, inB.got())

		_, err := b.Leave(t.Context(), alice.conn.ID(), "B")
		require.NoError(t, err)
		alice.say("2", "room")
		require.Equal(t, []string{"alice: 2"}, inA.got(), "the newest that is still joined")
		require.Equal(t, []string{"A"}, alice.conn.Rooms())
	})
}

func TestTextThatIsNoCommandIsIgnored(t *testing.T) {
	bubble(t, announced(), func(t *testing.T, b *bed) {
		alice, bob := b.open("alice"), b.open("bob")
		alice.discard()
		bob.discard()
		junk := []string{
			``, ` `, `Ping`, `"ping"`, `ping `, `null`, `[]`, `{}`, `42`, `{"content":"x"}`,
			`{"target":"all"}`, `{"content":1,"target":"all"}`, `{"content":"x","target":null}`,
			`{"Content":"x","target":"all"}`, `{"content":"x","TARGET":"all"}`,
			`{"content":"x","content":"y","target":"all"}`, `{"content":"x","target":"all"`,
			`{"content":"x","target":"all"} {}`, `{"content":"\ud800","target":"all"}`,
			`{"x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `,"content":"x","target":"all"}`,
		}
		for _, text := range junk {
			require.NoError(t, alice.Write([]byte(text)))
			require.Empty(t, bob.got(), "%q", text)
		}
		require.NoError(t, alice.WriteBinary([]byte(`{"content":"x","target":"all"}`)))
		require.Empty(t, bob.got(), "binary")
		require.EqualValues(t, len(junk)+1, b.Stats().Ignored)
		require.Zero(t, b.Stats().Messages)

		require.NoError(t, alice.Write([]byte(
			` { "more": {"content":"no"}, "con\u0074ent" : "yes" , "target":"all", "sender_id":"bob",`+
				`"message_type":"userjoined"} `)))
		require.Equal(t, []string{"alice: yes"}, bob.got(), "unknown fields do not matter")
		require.Nil(t, alice.ended())
	})
}

func TestNothingIsMissedAfterWelcome(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		transport, far := realtime.Pipe()
		go func() {
			_, err := b.Register(t.Context(), transport, realtime.Identity{UserID: "alice"})
			require.NoError(t, err)
		}()
		frame, _, err := far.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, "welcome", shorthand(t, string(frame)))
		require.Equal(t, 1, b.news(realtime.ToUser("alice"), "x").Queued)
		require.Equal(t, 1, b.news(realtime.ToAll(), "x").Queued)
	})
}

func TestStaleAfterByDefault(t *testing.T) {
	bubble(t, realtime.Options{Timeouts: realtime.Timeouts{Ping: -1}}, func(t *testing.T, b *bed) {
		start := time.Now()
		alice := b.open("alice")
		for alice.ended() == nil {
			time.Sleep(time.Second)
		}
		require.InDelta(t, 300, time.Since(start).Seconds(), 61, "stale after 300 s, swept every 60 s")
		alice.requireEnd(realtime.CloseTimeout)
	})
}
