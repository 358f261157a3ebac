package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/memory"
)

// leadingNumbers returns the numbers at the start of the contents, in the order of the messages.
func leadingNumbers(t *testing.T, frames []string) (ns []int) {
	for _, frame := range frames {
		var m struct {
			Type    string `json:"message_type"`
			Content json.RawMessage
		}
		frame = strings.Replace(frame, `"timestamp":T`, `"timestamp":0`, 1)
		require.NoError(t, json.Unmarshal([]byte(frame), &m))
		var text string
		if m.Type != "chat" || json.Unmarshal(m.Content, &text) != nil {
			continue
		}
		var n int
		_, err := fmt.Sscan(text, &n)
		require.NoError(t, err)
		ns = append(ns, n)
	}
	return ns
}

// A connection that lags in several streams receives a message to several of its rooms and its user
// once.
func TestUnionDuringBackfill(t *testing.T) {
	targets := map[string]realtime.Target{
		"two rooms":             realtime.ToRoom("a", "b"),
		"a room and a user":     realtime.ToRoom("a").Union(realtime.ToUser("bob")),
		"two rooms and a user":  realtime.ToRoom("a", "b").Union(realtime.ToUser("bob")),
		"everybody, and a room": realtime.ToAll().Union(realtime.ToRoom("b")),
		"a plain room as well":  realtime.ToRoom("a", "plain").Union(realtime.ToUser("bob")),
	}
	for name, to := range targets {
		for _, v1 := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", realtime.v1 ", v1), func(t *testing.T) {
				o := keeping(1000)
				o.Inbox.Keep = realtime.Retention{Messages: 1000, Bytes: -1}
				o.History.Bytes = -1
				o.Limits.QueueMessages, o.Timeouts.Write, o.Timeouts.Ping = 20, time.Hour, -1
				o.Room = func(name string) realtime.RoomOptions {
					if name == "plain" {
						return realtime.RoomOptions{Slow: realtime.SlowDropNewest, History: realtime.Retention{Messages: -1}}
					}
					return realtime.RoomOptions{Slow: realtime.SlowCatchUp}
				}
				o.Slow = realtime.SlowDropNewest
				bubble(t, o, func(t *testing.T, b *bed) { unionDuringBackfill(t, b, to, v1) })
			})
		}
	}
}

func unionDuringBackfill(t *testing.T, b *bed, to realtime.Target, v1 bool) {
	var protocols []string
	if v1 {
		protocols = []string{realtime.V1}
	}
	transport, far := realtime.Pipe(protocols...)
	bob := b.attach(transport, far, realtime.Identity{UserID: "bob"})
	for _, room := range []string{"a", "b", "plain"} {
		_, err := b.Join(t.Context(), bob.conn.ID(), room)
		require.NoError(t, err)
	}
	const n = 300
	pad := strings.Repeat("x", 3000)
	for i := range n {
		if i == 100 { // it reads some, and is slow again
			bob.pace(10 * time.Millisecond)
		}
		_, err := b.Send(t.Context(), to, realtime.Message{Content: json.RawMessage(fmt.Sprintf(`"%d %s"`, i, pad))})
		require.NoError(t, err)
		if i >= 100 && i%7 == 0 {
			time.Sleep(30 * time.Millisecond)
		}
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	got := leadingNumbers(t, bob.raw())
	if len(to.Rooms) > 0 && to.Rooms[len(to.Rooms)-1] == "plain" || to.All { // a part is not kept
		slices.Sort(got)
	}
	for i := range max(n, len(got)) { // the complete slices are too long for one line of a log
		require.Equal(t, i, append(got, -1)[min(i, len(got))], "%v", got[max(0, min(i, len(got))-5):min(i+10, len(got))])
	}
}

// A message that is kept in an inbox waits for its client, even if the client receives it as a
// member of a room with SlowDropOldest.
func TestUnionIsNotDroppedForAnother(t *testing.T) {
	for _, kept := range []int{-1, 5} {
		t.Run(fmt.Sprint("room keeps ", kept), func(t *testing.T) {
			o := inboxes(100)
			o.Limits.QueueMessages, o.Timeouts.Write, o.Timeouts.Ping = 10, time.Hour, -1
			o.Room = func(string) realtime.RoomOptions {
				return realtime.RoomOptions{
					Slow: realtime.SlowDropOldest, History: realtime.Retention{Messages: kept},
				}
			}
			bubble(t, o, func(t *testing.T, b *bed) {
				bob := b.stalled("bob")
				b.joinAll(bob, "hall")
				b.news(realtime.ToRoom("hall"), "before")
				b.news(realtime.ToRoom("hall").Union(realtime.ToUser("bob")), "kept")
				for range 50 {
					b.news(realtime.ToRoom("hall"), "after")
				}
				bob.unstall()
				require.Contains(t, bob.got(), `news "kept"`)
			})
		})
	}
}

// A message that was written to a plain client as a member of a room does not come again from the
// inbox of its user, and takes no place there.
func TestUnionToAPlainClientCountsAsTaken(t *testing.T) {
	o := inboxes(10)
	bubble(t, o, func(t *testing.T, b *bed) {
		bob := b.open("bob")
		b.joinAll(bob, "hall")
		for i := range 20 {
			res, err := b.Send(t.Context(), realtime.ToRoom("hall").Union(realtime.ToUser("bob")),
				realtime.Message{Type: "news", Sender: "alice", Content: json.RawMessage(fmt.Sprint(i))})
			require.NoError(t, err)
			require.Zero(t, res.Full, "message %d", i)
			synctest.Wait()
		}
		require.Len(t, bob.got(), 21)
		bob.Drop()
		synctest.Wait()
		require.Equal(t, []string{"welcome"}, b.open("bob").got())
	})
}

// The same for a plain client that finds the message during the backfill of its inbox.
func TestUnionToALaggingPlainClient(t *testing.T) {
	o := inboxes(100)
	o.Limits.QueueMessages = 8
	bubble(t, o, func(t *testing.T, b *bed) {
		b.sendToInbox("bob", 1, 50)
		bob := b.stalled("bob")
		b.joinAll(bob, "hall")
		b.news(realtime.ToRoom("hall").Union(realtime.ToUser("bob")), "both")
		bob.unstall()
		require.Len(t, bob.got(), 52)
		bob.Drop()
		synctest.Wait()
		require.Equal(t, []string{"welcome"}, b.open("bob").got())
	})
}

// stepwiseBroker is a broker in which a part of a message can be read before the next part is
// delivered, as in broker/bolt.
type stepwiseBroker struct {
	*memory.Broker
	between func()        // the deliveries of two parts; may be nil
	gate    chan struct{} // reads of a backfill wait for it; may be nil
}

func (b *stepwiseBroker) Publish(
	ctx context.Context, parts ...broker.Publication,
) (all []broker.Published, err error) {
	for i := range parts {
		if i > 0 && b.between != nil {
			b.between()
		}
		took, err := b.Broker.Publish(ctx, parts[i])
		if err != nil {
			return nil, err
		}
		all = append(all, took...)
	}
	return all, nil
}

func (b *stepwiseBroker) Read(ctx context.Context, stream string, q broker.Query) (broker.Page, error) {
	page, err := b.Broker.Read(ctx, stream, q)
	if b.gate != nil && !q.Backwards {
		<-b.gate
	}
	return page, err
}

// A connection receives a message to two rooms once, if it reads it in the backfill of one room
// while the other delivers it.
func TestUnionFromTwoStreamsAtOnce(t *testing.T) {
	const tabs, rounds = 50, 40
	o := keeping(100)
	broker := &stepwiseBroker{Broker: memory.New(nil)}
	o.Broker = broker
	bubble(t, o, func(t *testing.T, b *bed) {
		all := make([]*client, tabs)
		for i := range all {
			all[i] = b.open("")
			b.joinAll(all[i], "b")
		}
		for round := range rounds {
			broker.between = func() {
				broker.gate = make(chan struct{})
				for _, c := range all {
					_, err := c.conn.JoinFrom(t.Context(), "a", realtime.From{Last: 1})
					require.NoError(t, err)
				}
				synctest.Wait() // all have read the message and not yet received it
				close(broker.gate)
			}
			b.news(realtime.ToRoom("a", "b"), fmt.Sprint(round))
			for _, c := range all {
				require.Equal(t, []string{fmt.Sprintf("news %q", fmt.Sprint(round))}, c.got()[max(0, 1-round):])
				_, err := b.Leave(t.Context(), c.conn.ID(), "a")
				require.NoError(t, err)
			}
		}
	})
}

// A client that joins again at an older position receives the messages after it, including a
// message to several rooms that it has received before: it may not have processed it.
func TestUnionAfterRejoin(t *testing.T) {
	for _, how := range []string{"join", "recover", "leave and join"} {
		t.Run(how, func(t *testing.T) {
			withFakeBroker(t, func(t *testing.T, b *bed, fb *fakeBroker, alice *client, r *streamClient) {
				alice.request(`{"type":"join","id":2,"room":"other"}`)
				b.news(realtime.ToRoom("other"), "older")
				alice.discard()
				fb.afterNext("read", func() { // for the start position
					fb.afterNext("read", func() { // for the backfill
						b.news(realtime.ToRoom("hall", "other"), "both")
					})
				})
				frames := alice.request(`{"type":"join","id":3,"room":"other","since":{"epoch":"old","offset":1}}`)
				require.Contains(t, strings.Join(frames, "\n"), `"both"`)
				if how == "leave and join" {
					alice.request(`{"type":"leave","id":4,"room":"hall"}`)
					how = "join"
				}
				r.receive(alice.request(`{"type":"` + how + `","id":4,"room":"hall"` + since(r.at) + `}`))
				require.Equal(t, []string{"both"}, r.takeWords())
			})
		})
	}
}

// A full inbox of one user does not stop the delivery to others.
func TestUnionWithFullInbox(t *testing.T) {
	o := inboxes(10)
	o.History = realtime.Retention{Messages: 100}
	bubble(t, o, func(t *testing.T, b *bed) {
		send := func(to realtime.Target) (realtime.Result, error) {
			return b.Send(t.Context(), to, realtime.Message{
				Sender: "mallory", Content: json.RawMessage(`"x"`),
			})
		}
		for range 5 {
			res, err := send(realtime.ToUser("bob"))
			require.NoError(t, err)
			require.Equal(t, 1, res.Kept)
		}
		res, err := send(realtime.ToUser("bob"))
		require.ErrorIs(t, err, realtime.ErrFull)
		require.Equal(t, realtime.Result{Full: 1}, res)
		res, err = send(realtime.ToUser("bob", "carol").Union(realtime.ToRoom("hall")))
		require.NoError(t, err)
		require.Equal(t, realtime.Result{Full: 1, Kept: 2, Offline: 1}, res)
		for range 4 {
			_, err = send(realtime.ToUser("carol"))
			require.NoError(t, err)
		}
		_, err = send(realtime.ToUser("bob", "carol"))
		require.ErrorIs(t, err, realtime.ErrFull)
		res, err = send(realtime.ToUser("bob").Union(realtime.ToRoom("hall")))
		require.NoError(t, err)
		require.Equal(t, 1, res.Kept)
		_, err = b.Send(t.Context(), realtime.ToUser("bob"), realtime.Message{
			Sender: "mallory", Ephemeral: true, Content: json.RawMessage(`"now"`),
		})
		require.NoError(t, err, "an ephemeral message takes no place")
		_, err = b.Send(t.Context(), realtime.ToUser("bob"), realtime.Message{Type: "news"})
		require.NoError(t, err, "of the application")
	})
}
