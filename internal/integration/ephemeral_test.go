package integration_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// flash sends an ephemeral message of the application.
func (b *bed) flash(to realtime.Target, word string) realtime.Result {
	b.t.Helper()
	res, err := b.Send(b.t.Context(), to, realtime.Message{
		Type: "flash", Content: json.RawMessage(`"` + word + `"`), Ephemeral: true,
	})
	require.NoError(b.t, err)
	require.Equal(b.t, realtime.Position{}, res.Position)
	require.Zero(b.t, res.Kept)
	return res
}

// flash sends an ephemeral message of a client to a room. It does not wait.
func (c *client) flash(room, word string) {
	c.t.Helper()
	require.NoError(c.t, c.Write(fmt.Appendf(nil,
		`{"type":"send","room":%q,"message_type":"flash","content":%q,"ephemeral":true}`, room, word)))
}

// A client sends an ephemeral message without an id and gets no answer. The members of a room that
// keeps history get it, the sender and plain clients included, and the room does not keep it.
func TestEphemeralMessageOfAClient(t *testing.T) {
	for name, o := range map[string]realtime.Options{"plain room": {}, "history": keeping(100)} {
		t.Run(name, func(t *testing.T) {
			bubble(t, o, func(t *testing.T, b *bed) {
				alice, bob := b.openV1(realtime.Identity{UserID: "alice"}), b.open("bob")
				b.join("hall", alice, bob)
				alice.flash("hall", "here")
				const frame = `{"message_type":"flash","sender_id":"alice","content":"here","timestamp":946684800`
				require.Equal(t, []string{frame + `,"room":"hall","ephemeral":true}`}, alice.raw())
				require.Equal(t, []string{frame + `}`}, bob.raw(), "as any frame of the plain protocol")

				header := `{"type":"send","room":"hall","message_type":"stroke","ephemeral":true}`
				require.NoError(t, alice.WriteBinary(append([]byte{byte(len(header))}, header+"\x00\xff"...)))
				require.Equal(t, "b"+`{"message_type":"stroke","sender_id":"alice","timestamp":946684800,`+
					`"room":"hall","ephemeral":true}`+"\x00\xff", alice.raw()[0])
				require.Contains(t, bob.raw()[0], base64.StdEncoding.EncodeToString([]byte("\x00\xff")))
				if name == "history" {
					page, err := b.Room("hall").History(t.Context(), realtime.HistoryQuery{})
					require.NoError(t, err)
					require.Zero(t, page.Top.Offset)
				}
			})
		})
	}
}

// A member that lags gets an ephemeral message before older messages, and has no gap.
func TestEphemeralMessageForALaggingMember(t *testing.T) {
	o := keeping(1000)
	o.Limits.QueueMessages = 20
	bubble(t, o, func(t *testing.T, b *bed) {
		b.sendWords(1, 500)
		transport, far := realtime.Pipe(realtime.V1)
		alice := b.attach(transport, far, realtime.Identity{UserID: "alice"})
		require.NoError(t, alice.Write([]byte(`{"type":"join","id":1,"room":"hall","history":500}`)))
		synctest.Wait()
		res := b.flash(realtime.ToRoom("hall"), "now")
		require.Equal(t, realtime.Result{Matched: 1, Queued: 1}, res)
		alice.unstall()
		frames := alice.raw()
		r := &streamClient{t: t}
		r.receive(frames)
		require.Equal(t, words(1, 500), r.takeWords())
		require.Empty(t, r.gaps)
		text := strings.Join(frames, "\n")
		require.Equal(t, 1, strings.Count(text, `"now"`))
		require.Less(t, strings.Index(text, `"now"`), strings.Index(text, `"m500"`))
	})
}

// An inbox does not keep an ephemeral message, and the application is not asked about its user.
func TestEphemeralMessageToAUserWithAnInbox(t *testing.T) {
	o := inboxes(100)
	o.Inbox.Exists = func(context.Context, string) (bool, error) { return false, errors.New("asked") }
	o.Inbox.OnOffline = func(context.Context, string, realtime.Message) { t.Error("called") }
	bubble(t, o, func(t *testing.T, b *bed) {
		res := b.flash(realtime.ToUser("bob"), "missed")
		require.Equal(t, realtime.Result{Offline: 1}, res)
		phone := b.openInbox(realtime.Identity{UserID: "bob", Device: "phone"})
		desk := b.openInbox(realtime.Identity{UserID: "bob", Device: "desk"})
		res = b.flash(realtime.ToUser("bob"), "now")
		require.Equal(t, realtime.Result{Matched: 2, Queued: 2}, res)
		for _, device := range []*inboxClient{phone, desk} {
			frames := device.raw()
			require.Len(t, frames, 1)
			require.Contains(t, frames[0], `"now"`)
			require.NotContains(t, frames[0], "offset")
		}
		b.sendToInbox("bob", 1, 1)
		phone.listen()
		require.Equal(t, words(1, 1), phone.takeWords(), "the next position is the first")
	})
}

// A union of rooms and inboxes that keep messages keeps nothing of an ephemeral message. Each
// receiver gets it once, except those that the target excludes.
func TestEphemeralMessageToAUnion(t *testing.T) {
	o := keeping(100)
	o.Inbox = inboxes(100).Inbox
	bubble(t, o, func(t *testing.T, b *bed) {
		alice, bob, carol, dave := b.open("alice"), b.open("bob"), b.open("carol"), b.open("dave")
		b.join("hall", alice, bob, dave)
		b.join("vip", bob, carol, dave)
		to := realtime.ToRoom("hall", "vip").Union(realtime.ToUser("bob", "eve")).
			Union(realtime.ToConn(alice.conn.ID())).Except(carol.conn.ID()).ExceptUser("dave")
		res := b.flash(to, "x")
		require.Equal(t, realtime.Result{Matched: 2, Queued: 2, Offline: 1}, res)
		require.Equal(t, []string{`flash "x"`}, alice.got())
		require.Equal(t, []string{`flash "x"`}, bob.got())
		require.Empty(t, carol.got())
		require.Empty(t, dave.got())
		require.Equal(t, uint64(1), b.news(realtime.ToRoom("hall"), "first").Position.Offset)
		require.Equal(t, uint64(1), b.news(realtime.ToUser("eve"), "first").Position.Offset)
	})
}

// A receiver in several parts of a target counts once, also if its queue does not take the message.
func TestEphemeralMessageIsDroppedOnce(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice := b.stalled("alice")
		b.joinAll(alice, "hall", "vip")
		b.fillQueue(realtime.ToUser("alice"), 70, 1)
		res := b.flash(realtime.ToRoom("hall", "vip").Union(realtime.ToUser("alice")), "x")
		require.Equal(t, realtime.Result{Matched: 1, Dropped: 1}, res)
	})
}

// Ephemeral messages that were sent while a client was away do not arrive when it resumes its
// session, nor does it learn of a gap.
func TestEphemeralMessagesWhileAway(t *testing.T) {
	bubble(t, keeping(100), func(t *testing.T, b *bed) {
		alice, w := b.session("alice")
		r := &streamClient{t: t}
		r.receive(alice.request(`{"type":"join","id":1,"room":"hall"}`))
		alice.Drop()
		synctest.Wait()
		for i := 1; i <= 12; i++ {
			require.Zero(t, b.flash(realtime.ToRoom("hall"), "missed").Matched)
			b.sendWords(i, i)
		}
		again, _ := b.session("alice")
		frames := append(again.request(fmt.Sprintf(`{"type":"resume","id":1,"session":%q}`, w.Session)),
			again.request(`{"type":"join","id":2,"room":"hall"`+since(r.at)+`}`)...)
		require.NotContains(t, strings.Join(frames, ""), "missed")
		r.receive(frames[1:])
		require.Equal(t, words(1, 12), r.takeWords())
		require.Empty(t, r.gaps)
	})
}

// Ephemeral messages for a client that reads nothing end no connection, whatever the policy is, and
// all other messages arrive in order: as many as the queue can hold without ephemeral ones.
func TestEphemeralMessagesEndNoConnection(t *testing.T) {
	for name, policy := range map[string]realtime.SlowPolicy{
		"disconnect": realtime.SlowDisconnect, "drop oldest": realtime.SlowDropOldest,
		"drop newest": realtime.SlowDropNewest, "catch up": realtime.SlowCatchUp,
	} {
		t.Run(name, func(t *testing.T) {
			const room = 20
			o := keeping(100)
			o.Slow, o.Limits.QueueMessages = policy, room
			bubble(t, o, func(t *testing.T, b *bed) {
				transport, far := realtime.Pipe(realtime.V1)
				slow := b.attach(transport, far, realtime.Identity{UserID: "slow"})
				require.NoError(t, slow.Write([]byte(`{"type":"join","id":1,"room":"hall"}`)))
				synctest.Wait()
				b.news(realtime.ToUser("slow"), strings.Repeat("x", 64<<10)) // fills the buffer
				b.news(realtime.ToUser("slow"), "its write blocks")
				synctest.Wait()
				var sent realtime.Result
				for i := range 200 {
					if i%10 == 9 {
						b.sendWords(i/10+1, i/10+1)
					}
					res := b.flash(realtime.ToRoom("hall"), "e")
					sent.Matched, sent.Dropped = sent.Matched+res.Matched, sent.Dropped+res.Dropped
				}
				synctest.Wait()
				require.NoError(t, slow.conn.Context().Err())
				require.Equal(t, 200, sent.Matched)
				require.GreaterOrEqual(t, sent.Dropped, 150)
				require.EqualValues(t, 200, b.Stats().DroppedEphemeral, "the queued ones made way")
				require.Greater(t, slow.conn.Info().Queued, room, "and what is being written")
				slow.unstall()
				r := &streamClient{t: t}
				r.receive(slow.raw())
				require.Equal(t, words(1, room), r.takeWords())
				require.Empty(t, r.gaps)
				require.Zero(t, b.Stats().Ended)
				b.flash(realtime.ToRoom("hall"), "it reads again")
				require.Len(t, slow.raw(), 1)
			})
		})
	}
}

// Under memory pressure, ephemeral messages are dropped, and others are not.
func TestEphemeralMessagesUnderMemoryPressure(t *testing.T) {
	bubble(t, memoryOptions(100_000), func(t *testing.T, b *bed) {
		alice := b.open("alice")
		b.stalled("stuck")
		alice.discard()
		b.fillQueue(realtime.ToUser("stuck"), 10, 20_000)
		res := b.flash(realtime.ToUser("alice"), "e")
		require.Equal(t, realtime.Result{Matched: 1, Dropped: 1}, res)
		b.news(realtime.ToUser("alice"), "m")
		require.Equal(t, []string{`news "m"`}, alice.got())
		require.EqualValues(t, 1, b.Stats().DroppedEphemeral)
		time.Sleep(3 * time.Second) // the stuck client is closed
		require.Equal(t, 1, b.flash(realtime.ToUser("alice"), "e").Queued)
	})
}

func TestEphemeralMessageIsCompressed(t *testing.T) {
	s := newTestServer(t, compressing(), false)
	c := s.offer(t, "alice", browserOffer)
	_, err := s.rt.Send(t.Context(), realtime.ToUser("alice"), realtime.Message{
		Type: "n", Content: json.RawMessage(`"` + lengthy("x") + `"`), Ephemeral: true,
	})
	require.NoError(t, err)
	text, compressed := c.next()
	require.Equal(t, `n "`+lengthy("x")+`"`, text)
	require.True(t, compressed)
}

// Ephemeral messages take no place among the ids that the server remembers, and count as messages
// for the rate limit and for the limit of receivers.
func TestEphemeralMessagesCountForTheLimits(t *testing.T) {
	for name, test := range map[string]struct {
		limits realtime.Limits
		n      int
	}{
		"messages":  {realtime.Limits{InboundRate: 10, QueueMessages: 20}, 60},
		"receivers": {realtime.Limits{InboundFanout: 30}, 150},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, realtime.Options{Limits: test.limits}, func(t *testing.T, b *bed) {
				alice := b.openV1(realtime.Identity{UserID: "alice"})
				members := []*client{alice, b.open("bob"), b.open("carol")}
				b.join("hall", members...)
				alice.request(`{"type":"send","id":1,"room":"hall","message_id":"x"}`)
				time.Sleep(time.Minute)
				before := b.Stats().MemoryBytes
				for range test.n {
					alice.flash("hall", "e")
					synctest.Wait() // for the receivers, who may be behind otherwise
				}
				require.Positive(t, b.Stats().Throttled)
				time.Sleep(10 * time.Second)
				require.Len(t, members[1].got(), 1+test.n)
				require.Equal(t, before, b.Stats().MemoryBytes)
				frames := alice.request(`{"type":"send","id":2,"room":"hall","message_id":"x"}`)
				require.Len(t, frames, test.n+1)
				require.Contains(t, frames[test.n], `"reply"`)
				require.Empty(t, members[1].got(), "the id is still known")
			})
		})
	}
}

// refusals returns the errors among frames, without their texts.
func refusals(t *testing.T, frames []string) (codes []string) {
	for _, text := range frames {
		var f struct {
			Type    string          `json:"message_type"`
			ID      json.RawMessage `json:"id"`
			Content struct {
				Code string
				Type string `json:"message_type"`
			}
		}
		require.NoError(t, json.Unmarshal([]byte(text), &f))
		require.Equal(t, []string{"error", "null"}, []string{f.Type, string(f.ID)}, text)
		codes = append(codes, f.Content.Code+" "+f.Content.Type)
	}
	return codes
}

// A refused ephemeral message is answered with its type, and at most once in a second for each
// connection. Nothing else is answered less often.
func TestEphemeralMessagesThatAreRefused(t *testing.T) {
	denied := func(_ context.Context, _ *realtime.Conn, a realtime.Action) error {
		if a.Kind == realtime.ActionSend {
			return realtime.ErrForbidden
		}
		return nil
	}
	bubble(t, realtime.Options{Authorize: denied}, func(t *testing.T, b *bed) {
		alice, bob := b.openV1(realtime.Identity{UserID: "alice"}), b.openV1(realtime.Identity{})
		alice.discard()
		bob.discard()
		for range 5 { // seconds
			for range 10 {
				alice.flash("hall", "e")
				bob.flash("hall", "e")
				time.Sleep(99 * time.Millisecond)
			}
			require.Contains(t, alice.request(`{"type":"send","id":7,"room":"hall"}`), // has an answer
				`{"message_type":"error","id":7,"content":{"code":"forbidden","message":"forbidden"}}`)
		}
		require.Equal(t, []string{"forbidden flash"}, refusals(t, bob.raw()[4:]), "5 in 4.95 seconds")
		require.EqualValues(t, 105, b.Stats().Denied)
	})
}

// Whatever is wrong with an ephemeral message, the answers have no id, and the client gets one.
func TestEphemeralMessagesThatAreWrong(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		long := strings.Repeat("x", 100)
		for request, want := range map[string]string{
			`"room":"hall","message_id":"x"`:                "bad_request chat",
			`"room":"hall","latest":"x","message_type":"t"`: "bad_request t",
			`"room":"hall","ttl_ms":1`:                      "bad_request chat",
			`"room":"hall","receipt":true`:                  "bad_request chat",
			`"room":7,"message_type":"t"`:                   "bad_request chat",
			`"room":"hall","content":"\ud800"`:              "bad_request chat",
			`"room":"hall","content":{"a":1},"content":"b"`: "bad_request chat",
			`"room":"hall","message_type":"welcome"`:        "bad_request welcome",
			`"room":"hall","message_type":"` + long + `"`:   "bad_request " + long[:64],
			`"message_type":"t"`:                            "bad_request t",
		} {
			for range 3 {
				require.NoError(t, alice.Write([]byte(`{"type":"send","ephemeral":true,`+request+`}`)))
			}
			require.Equal(t, []string{want}, refusals(t, alice.raw()), request)
			time.Sleep(time.Second)
		}
		for range 3 { // with an id, it is a request like any other
			require.Contains(t, alice.request(`{"type":"send","id":1,"all":true,"ephemeral":true}`)[0],
				`"id":1,"content":{"code":"bad_request"`)
		}
	})
}

// A handler gets the mark, passes it on with the message, and its errors are answered like others.
func TestEphemeralMessageForAHandler(t *testing.T) {
	var b *bed
	o := keeping(100)
	o.OnMessage = func(ctx context.Context, c *realtime.Conn, in realtime.Inbound) (any, error) {
		if string(in.Message.Content) == `"refuse"` {
			return nil, &realtime.Error{Code: "muted", Message: "for a while"}
		}
		return b.Send(ctx, in.Target, in.Message)
	}
	bubble(t, o, func(t *testing.T, bb *bed) {
		b = bb
		alice, bob := b.openV1(realtime.Identity{UserID: "alice"}), b.open("bob")
		b.join("hall", alice, bob)
		alice.flash("hall", "x")
		require.Contains(t, alice.raw()[0], `"ephemeral":true`)
		require.Equal(t, []string{`flash "x"`}, bob.got())
		alice.flash("hall", "refuse")
		alice.flash("hall", "refuse")
		require.Equal(t, []string{"muted flash"}, refusals(t, alice.raw()))
		require.Zero(t, b.Stats().Failed)
		page, err := b.Room("hall").History(t.Context(), realtime.HistoryQuery{})
		require.NoError(t, err)
		require.Empty(t, page.Messages)
	})
}

// During a shutdown, an ephemeral message is like any other.
func TestEphemeralMessageDuringShutdown(t *testing.T) {
	bubble(t, realtime.Options{Timeouts: realtime.Timeouts{Write: time.Minute}}, func(t *testing.T, b *bed) {
		slow := b.stalled("slow")
		b.fillQueue(realtime.ToUser("slow"), 1, 100)
		done := make(chan error)
		go func() { done <- b.Shutdown(t.Context()) }()
		synctest.Wait()
		res := b.flash(realtime.ToUser("slow"), "e")
		require.Zero(t, res.Queued)
		slow.unstall()
		require.NoError(t, <-done)
		_, err := b.Send(t.Context(), realtime.ToAll(), realtime.Message{Ephemeral: true})
		require.ErrorIs(t, err, realtime.ErrClosed)
	})
}

func TestEphemeralMessageOfTheApplicationIsChecked(t *testing.T) {
	bubble(t, keeping(100), func(t *testing.T, b *bed) {
		for _, m := range []realtime.Message{
			{TTL: -1}, {Ephemeral: true, TTL: -1}, {Ephemeral: true, TTL: 1},
			{Ephemeral: true, ID: "x"}, {Ephemeral: true, Latest: "x"},
		} {
			_, err := b.Send(t.Context(), realtime.ToRoom("hall"), m)
			require.ErrorIs(t, err, realtime.ErrInvalidMessage)
		}
	})
}

// Whatever ephemeral messages come between them, and however slow its client is, a member that
// catches up gets all messages of the room once and in order.
func TestEphemeralMessagesUnderRandomSchedules(t *testing.T) {
	const messages = 200
	for seed := range uint64(4) {
		dice := rand.New(rand.NewPCG(seed, 17))
		o := keeping(1000)
		o.Inbox, o.Show, o.AnnounceUsers = inboxes(1000).Inbox, realtime.ShowMembers, true
		o.Limits.QueueMessages = []int{4, 20, 1000}[dice.IntN(3)]
		bubble(t, o, func(t *testing.T, b *bed) {
			var members []*client
			for i := range 5 {
				transport, far := realtime.Pipe(realtime.V1)
				c := b.attach(transport, far, realtime.Identity{UserID: fmt.Sprint("u", i)})
				require.NoError(t, c.Write([]byte(`{"type":"join","id":1,"room":"hall"}`)))
				members = append(members, c)
			}
			members[0].unstall()
			members[1].pace(20 * time.Millisecond)
			synctest.Wait()
			hall := realtime.ToRoom("hall")
			for i := 1; i <= messages; i++ {
				b.sendWords(i, i)
				for range dice.IntN(5) {
					to := []realtime.Target{
						hall, realtime.ToAll(), hall.Union(realtime.ToUser("u1", "nobody")).ExceptUser("u2"),
					}[dice.IntN(3)]
					size := []int{10, 1000, 30_000}[dice.IntN(3)]
					res := b.flash(to, strings.Repeat("e", size))
					require.Equal(t, res.Matched, res.Queued+res.Dropped)
				}
				if i == messages/2 {
					members[2].pace(time.Millisecond)
				}
				time.Sleep(time.Duration(dice.IntN(5)) * time.Millisecond)
			}
			for _, c := range members {
				c.unstall()
			}
			time.Sleep(10 * time.Minute)
			for _, c := range members {
				require.Nil(t, c.ended())
				r := &streamClient{t: t}
				r.receive(c.raw())
				require.Equal(t, words(1, messages), r.takeWords())
				require.Empty(t, r.gaps)
			}
		})
	}
}
