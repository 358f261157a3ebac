package integration_test

import (
	"context"
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
	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/memory"
)

// inboxes returns Options that keep n messages for each user.
func inboxes(n int) realtime.Options {
	return realtime.Options{Inbox: realtime.InboxOptions{Keep: realtime.Retention{Messages: n}}}
}

// inboxClient is a client that reads the inbox of its user.
type inboxClient struct {
	*client
	streamClient
	acks int
}

// openInbox connects a client of realtime.v1 and reads the inbox.
func (b *bed) openInbox(id realtime.Identity) *inboxClient {
	b.t.Helper()
	box := &inboxClient{client: b.openV1(id), streamClient: streamClient{t: b.t}}
	box.listen()
	return box
}

// listen processes the frames since the last call.
func (box *inboxClient) listen() { box.receive(box.raw()) }

// ack acknowledges a position and returns the answer.
func (box *inboxClient) ack(at realtime.Position) string {
	box.acks++
	require.NoError(box.streamClient.t, box.Write(fmt.Appendf(nil,
		`{"type":"ack","id":%d,"epoch":%q,"offset":%d}`, box.acks, at.Epoch, at.Offset)))
	frames := box.raw()
	box.receive(frames)
	return frames[len(frames)-1]
}

// sendToInbox sends messages to a user.
func (b *bed) sendToInbox(user string, from, to int) realtime.Result {
	b.t.Helper()
	var res realtime.Result
	for i := from; i <= to; i++ {
		res = b.news(realtime.ToUser(user), fmt.Sprint("m", i))
		require.Equal(b.t, 1, res.Kept)
	}
	return res
}

func TestInboxOfAnOfflineUser(t *testing.T) {
	bubble(t, inboxes(100), func(t *testing.T, b *bed) {
		res := b.sendToInbox("bob", 1, 3)
		require.Equal(t, 1, res.Offline)
		require.Equal(t, uint64(3), res.Position.Offset)
		bob := b.openInbox(realtime.Identity{UserID: "bob"})
		require.Equal(t, words(1, 3), bob.takeWords())
		require.Equal(t, uint64(3), bob.top)
		res = b.sendToInbox("bob", 4, 4)
		require.Zero(t, res.Offline)
		require.Equal(t, 1, res.Queued)
		bob.listen()
		require.Equal(t, words(4, 4), bob.takeWords())
		bob.Drop()

		bob = b.openInbox(realtime.Identity{UserID: "bob"})
		require.Equal(t, words(1, 4), bob.takeWords(), "nothing is acknowledged")
		at := bob.at
		at.Offset = 3
		require.Equal(t, `{"message_type":"reply","id":1}`, bob.ack(at))
		bob.Drop()
		bob = b.openInbox(realtime.Identity{UserID: "bob"})
		require.Equal(t, words(4, 4), bob.takeWords())
		require.Contains(t, bob.ack(bob.at), "reply")
		bob.Drop()
		require.Empty(t, b.openInbox(realtime.Identity{UserID: "bob"}).takeWords())
	})
}

func TestInboxRefusesInvalidPositions(t *testing.T) {
	bubble(t, inboxes(100), func(t *testing.T, b *bed) {
		b.sendToInbox("bob", 1, 3)
		bob := b.openInbox(realtime.Identity{UserID: "bob"})
		for _, at := range []realtime.Position{
			{Epoch: bob.at.Epoch, Offset: 4}, {Epoch: "x", Offset: 1}, {Offset: 1},
		} {
			require.Contains(t, bob.ack(at), `"code":"position"`)
		}
		nobody := b.openInbox(realtime.Identity{})
		require.Contains(t, nobody.ack(bob.at), `"code":"position"`)
		bob.Drop()
		require.Equal(t, words(1, 3), b.openInbox(realtime.Identity{UserID: "bob"}).takeWords())
	})
}

func TestInboxOfSeveralDevices(t *testing.T) {
	phone := realtime.Identity{UserID: "bob", Device: "phone"}
	desk := realtime.Identity{UserID: "bob", Device: "desk"}
	for _, each := range []bool{false, true} {
		o := inboxes(100)
		o.Inbox.PerDevice = each
		bubble(t, o, func(t *testing.T, b *bed) {
			a, z := b.openInbox(phone), b.openInbox(desk)
			b.sendToInbox("bob", 1, 3)
			for _, box := range []*inboxClient{a, z} {
				box.listen()
				require.Equal(t, words(1, 3), box.takeWords())
			}
			require.Contains(t, a.ack(a.at), "reply")
			z.Drop()
			z = b.openInbox(desk)
			if each {
				require.Equal(t, words(1, 3), z.takeWords(), "the desk has not acknowledged")
			} else {
				require.Empty(t, z.takeWords(), "acknowledged for the user")
			}
			b.sendToInbox("bob", 4, 4)
			z.listen()
			require.Equal(t, words(4, 4), z.takeWords())
			require.Empty(t, z.gaps)
		})
	}
}

// A device that reads slowly while another one acknowledges has no gap.
func TestInboxAcknowledgedByAnotherDevice(t *testing.T) {
	o := inboxes(5000)
	o.Limits.QueueMessages, o.Limits.InboundRate = 8, -1
	bubble(t, o, func(t *testing.T, b *bed) {
		transport, far := realtime.Pipe(realtime.V1)
		slow := b.attach(transport, far, realtime.Identity{UserID: "bob"})
		quick := b.openInbox(realtime.Identity{UserID: "bob"})
		for i := 1; i <= 3000; i += 10 {
			b.sendToInbox("bob", i, i+9)
			quick.listen()
			require.Contains(t, quick.ack(quick.at), "reply")
		}
		require.Equal(t, words(1, 3000), quick.takeWords())
		slow.unstall()
		r := &streamClient{t: t}
		r.receive(slow.raw())
		require.Empty(t, r.gaps)
		require.Less(t, len(r.takeWords()), 3000)
		require.Equal(t, quick.streamClient.at, r.at)
	})
}

// A plain client does not receive again what was written to it, and receives the rest over its next
// connection.
func TestInboxOfAPlainClient(t *testing.T) {
	bubble(t, inboxes(100), func(t *testing.T, b *bed) {
		var all []string
		for i := range 5 {
			word := fmt.Sprint(i) + strings.Repeat("x", 100<<10)
			b.news(realtime.ToUser("bob"), word)
			all = append(all, fmt.Sprintf("news %q", word))
		}
		stalled := b.stalled("bob") // one or two messages are written, and then the pipe is full
		synctest.Wait()
		stalled.Drop()
		stalled.unstall()
		has := len(stalled.got()[1:]) // after the welcome
		require.Less(t, has, len(all))
		bob := b.open("bob")
		again := bob.got()[1:]
		require.GreaterOrEqual(t, has+len(again), len(all))
		require.Equal(t, all[len(all)-len(again):], again)
		b.sendToInbox("bob", 3, 3)
		require.Equal(t, []string{`news "m3"`}, bob.got())
		bob.Drop()
		synctest.Wait()
		b.sendToInbox("bob", 4, 4)
		bob = b.open("bob")
		require.Equal(t, []string{"welcome", `news "m4"`}, bob.got())
	})
}

func TestInboxExists(t *testing.T) {
	o := inboxes(100)
	gone := errors.New("the directory is gone")
	var d diary
	o.Inbox.Exists = func(_ context.Context, user string) (bool, error) {
		if user == "who" {
			return false, gone
		}
		return user == "bob", nil
	}
	o.Inbox.OnOffline = func(_ context.Context, user string, m realtime.Message) {
		d.write(user + " " + string(m.Content))
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		b.open("online")
		require.Equal(t, 1, b.news(realtime.ToUser("online"), "a").Kept)
		res := b.news(realtime.ToUser("bob", "dave"), "b")
		require.Equal(t, 1, res.Kept)
		require.Equal(t, 2, res.Offline)
		res = b.news(realtime.ToUser("dave"), "c")
		require.Zero(t, res.Kept)
		require.Equal(t, 1, res.Offline)
		_, err := b.Send(t.Context(), realtime.ToUser("bob", "who"), realtime.Message{})
		require.ErrorIs(t, err, gone)
		require.Equal(t, []string{`bob "b"`}, d.read())
	})
}

func TestInboxesAreBounded(t *testing.T) {
	o := inboxes(3)
	o.Broker = memory.New(&memory.Options{Inboxes: 2})
	bubble(t, o, func(t *testing.T, b *bed) {
		b.sendToInbox("bob", 1, 10) // a user that was never connected
		b.sendToInbox("carol", 1, 1)
		_, err := b.Send(t.Context(), realtime.ToUser("dave"), realtime.Message{})
		require.ErrorIs(t, err, realtime.ErrFull)
		bob := b.openInbox(realtime.Identity{UserID: "bob"})
		require.Equal(t, words(8, 10), bob.takeWords())
		require.Equal(t, []string{"overflow"}, bob.gaps)
		require.Contains(t, bob.request(`{"type":"send","id":9,"user":"dave","content":1}`)[0], `"code":"limit"`)
	})
}

func TestInboxTimeToLive(t *testing.T) {
	bubble(t, inboxes(100), func(t *testing.T, b *bed) {
		for _, ttl := range []time.Duration{time.Minute, 0} {
			_, err := b.Send(t.Context(), realtime.ToUser("bob"), realtime.Message{
				Type: "news", TTL: ttl, Content: fmt.Appendf(nil, "%q", ttl),
			})
			require.NoError(t, err)
		}
		time.Sleep(time.Minute)
		bob := b.openInbox(realtime.Identity{UserID: "bob"})
		require.Equal(t, []string{"0s"}, bob.takeWords())
		require.Empty(t, bob.gaps)
	})
}

func TestSlowInboxReader(t *testing.T) {
	o := inboxes(5000)
	o.Limits.QueueMessages = 20
	bubble(t, o, func(t *testing.T, b *bed) {
		b.sendToInbox("bob", 1, 1000)
		bob := b.openInbox(realtime.Identity{UserID: "bob"})
		require.Equal(t, words(1, 1000), bob.takeWords())
		b.sendToInbox("bob", 1001, 3000)
		bob.listen()
		require.Equal(t, words(1001, 3000), bob.takeWords())
		require.Empty(t, bob.gaps)
	})
}

// A user who is a receiver twice gets a message once. A later connection gets both copies, with the
// same id.
func TestInboxAndRoomAtOnce(t *testing.T) {
	o := inboxes(100)
	o.History = realtime.Retention{Messages: 100}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openInbox(realtime.Identity{UserID: "alice"})
		alice.request(`{"type":"join","id":1,"room":"hall"}`)
		res := b.news(realtime.ToRoom("hall").Union(realtime.ToUser("alice", "bob")), "once")
		require.Equal(t, 3, res.Kept)
		require.Equal(t, 1, res.Offline)
		require.Equal(t, 1, res.Queued)
		frames := alice.raw()
		require.Len(t, frames, 1)
		var in struct{ ID, Room string }
		require.NoError(t, json.Unmarshal([]byte(frames[0]), &in))
		require.Equal(t, "hall", in.Room)
		alice.Drop()
		again := b.openV1(realtime.Identity{UserID: "alice"}).raw()
		require.Len(t, again, 2)
		require.Contains(t, again[1], in.ID)
	})
}

func TestInboxExceptions(t *testing.T) {
	bubble(t, inboxes(100), func(t *testing.T, b *bed) {
		res := b.news(realtime.ToUser("alice", "bob").ExceptUser("alice"), "m")
		require.Equal(t, 1, res.Kept)
		require.Empty(t, b.openInbox(realtime.Identity{UserID: "alice"}).takeWords())
		require.Equal(t, []string{"m"}, b.openInbox(realtime.Identity{UserID: "bob"}).takeWords())
		one := b.openInbox(realtime.Identity{UserID: "carol"})
		b.news(realtime.ToUser("carol").Except(one.conn.ID()), "not here")
		b.news(realtime.ToUser("carol"), "here")
		one.listen()
		require.Equal(t, []string{"here"}, one.takeWords())
	})
}

// faultyBroker returns an error where a test asks for it.
type faultyBroker struct {
	*memory.Broker
	err error
}

func (f *faultyBroker) Cursor(ctx context.Context, stream, reader string) (broker.Position, error) {
	if f.err != nil {
		return broker.Position{}, f.err
	}
	return f.Broker.Cursor(ctx, stream, reader)
}

func TestInboxOpenFails(t *testing.T) {
	o := inboxes(100)
	o.Limits.ConnsPerUser = 1
	store := &faultyBroker{Broker: memory.New(nil), err: errors.New("no disk")}
	o.Broker = store
	o.OnConnect = func(context.Context, *realtime.Conn) error {
		if store.err != nil {
			t.Error("OnConnect was called")
		}
		return nil
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		bob := b.dial("bob")
		require.ErrorIs(t, bob.err, store.err)
		bob.requireEnd(realtime.CloseInternal)
		store.err = nil
		require.Equal(t, []string{"welcome"}, b.open("bob").got(), "the place was released")
	})
}

// A connection does not wait for its inbox for ever.
func TestInboxOpenHangs(t *testing.T) {
	o := inboxes(100)
	o.Broker = stuckBroker{memory.New(nil)}
	bubble(t, o, func(t *testing.T, b *bed) {
		start := time.Now()
		bob := b.dial("bob")
		require.ErrorIs(t, bob.err, context.DeadlineExceeded)
		require.Equal(t, 10*time.Second, time.Since(start))
		bob.requireEnd(realtime.CloseInternal)
	})
}

// In any order of events, each device receives each message once and in order, until it is
// acknowledged.
func TestInboxUnderRandomSchedules(t *testing.T) {
	for seed := range schedules() {
		o := inboxes(10_000)
		o.Inbox.PerDevice, o.Inbox.Attempts = true, -1
		o.Limits.QueueMessages, o.Limits.InboundRate = 8, -1
		bubble(t, o, func(t *testing.T, b *bed) {
			dice, n := rand.New(rand.NewPCG(seed, 2)), 0
			type device struct {
				box   *inboxClient
				acked int // number of messages
				seen  int
			}
			devices := make([]device, 3)
			read := func(i int) {
				d := &devices[i]
				d.box.listen()
				said := d.box.takeWords()
				require.Equal(t, words(d.seen+1, d.seen+len(said)), said, "seed %d", seed)
				d.seen += len(said)
			}
			open := func(i int) {
				d := &devices[i]
				d.seen = d.acked
				d.box = &inboxClient{client: b.openV1(realtime.Identity{
					UserID: "bob", Device: fmt.Sprint("d", i),
				}), streamClient: streamClient{t: t}}
			}
			for i := range devices {
				open(i)
			}
			for range 80 {
				i := dice.IntN(len(devices))
				switch dice.IntN(6) {
				case 0, 1, 2:
					k := 1 + dice.IntN(12)
					b.sendToInbox("bob", n+1, n+k)
					n += k
				case 3:
					read(i)
				case 4:
					read(i)
					require.Contains(t, devices[i].box.ack(devices[i].box.streamClient.at), `"reply"`)
					said := devices[i].box.takeWords()
					devices[i].acked, devices[i].seen = devices[i].seen, devices[i].seen+len(said)
				default:
					devices[i].box.Drop()
					open(i)
				}
			}
			for i := range devices {
				read(i)
				require.Equal(t, n, devices[i].seen, "seed %d", seed)
			}
		})
	}
}

// A plain client is lost while the broker records an acknowledgement for it. The messages that were
// not written by then come again.
func TestPlainClientIsLostDuringAnAcknowledgement(t *testing.T) {
	o := inboxes(100)
	fb := newFakeBroker()
	o.Broker = fb
	bubble(t, o, func(t *testing.T, b *bed) {
		bob := b.stalled("bob")
		release := fb.hold("ack")
		b.sendToInbox("bob", 1, 1)
		synctest.Wait()
		var all []string
		for i := range 5 {
			word := fmt.Sprint(i) + strings.Repeat("x", 100<<10)
			b.news(realtime.ToUser("bob"), word)
			all = append(all, fmt.Sprintf("news %q", word))
		}
		synctest.Wait()
		bob.Drop()
		bob.unstall()
		had := len(bob.got()[2:])
		require.Less(t, had, len(all))
		release()
		again := b.open("bob").got()[1:]
		require.GreaterOrEqual(t, had+len(again), len(all))
	})
}
