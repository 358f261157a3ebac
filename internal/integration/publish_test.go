package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/memory"
)

// countingBroker is a broker that counts the parts of each publish, and returns an error for one of
// them.
type countingBroker struct {
	*memory.Broker
	calls   []int // number of parts
	refuse  int   // the number of the failing call, starting with 1
	refusal error
}

func (b *countingBroker) Publish(
	ctx context.Context, parts ...broker.Publication,
) ([]broker.Published, error) {
	b.calls = append(b.calls, len(parts))
	if len(b.calls) == b.refuse {
		return nil, b.refusal
	}
	return b.Broker.Publish(ctx, parts...)
}

// A message to many users is published to their inboxes in batches. If the broker returns an error
// for one batch, Send reports it together with the result of the others.
func TestInboxesArePublishedInBatches(t *testing.T) {
	const users = 600
	var all []string
	for i := range users {
		all = append(all, fmt.Sprintf("user%03d", i))
	}
	broker := &countingBroker{Broker: memory.New(nil), refuse: 3, refusal: errors.New("no")}
	var heard []string
	o := inboxes(100)
	o.Broker = broker
	o.Inbox.OnOffline = func(_ context.Context, user string, _ realtime.Message) { heard = append(heard, user) }
	bubble(t, o, func(t *testing.T, b *bed) {
		here, there := b.open("user003"), b.open("user599")
		here.discard()
		there.discard()
		res, err := b.Send(t.Context(), realtime.ToUser(all...), realtime.Message{Type: "news"})
		require.ErrorIs(t, err, broker.refusal)
		require.Equal(t, []int{256, 256, 88}, broker.calls)
		require.Equal(t, 512, res.Kept)
		require.Equal(t, 511, res.Offline)
		require.Equal(t, 1, res.Queued)
		require.Len(t, heard, 511)
		require.Equal(t, []string{"news null"}, here.got())
		require.Empty(t, there.got())
		broker.calls = nil
		res, err = b.Send(t.Context(), realtime.ToUser("user003", "user599"), realtime.Message{Type: "news"})
		require.NoError(t, err)
		require.Equal(t, []int{2}, broker.calls)
		require.Equal(t, 2, res.Queued)
	})
}

// A message to more users than a batch takes and to a room: a connection that is a receiver twice
// gets it once.
func TestManyInboxesAndARoom(t *testing.T) {
	o := inboxes(100)
	o.History = keeping(100).History
	bubble(t, o, func(t *testing.T, b *bed) {
		var all []string
		var tabs []*client
		for i := range 200 {
			user := fmt.Sprint("user", i)
			all = append(all, user)
			for range 2 {
				tab := b.open(user)
				tabs = append(tabs, tab)
				_, err := b.Join(t.Context(), tab.conn.ID(), "hall")
				require.NoError(t, err)
			}
		}
		res, err := b.Send(t.Context(), realtime.ToUser(all...).Union(realtime.ToRoom("hall")),
			realtime.Message{Type: "news"})
		require.NoError(t, err)
		require.Equal(t, len(all)+1, res.Kept)
		require.Equal(t, len(tabs), res.Queued)
		for _, tab := range tabs {
			require.Equal(t, []string{"welcome", "news null"}, tab.got())
		}
	})
}

// A message that is larger than the retention of its room is refused, and no other message is
// deleted for it.
func TestMessageAboveRetentionBytes(t *testing.T) {
	o := keeping(100)
	o.History.Bytes = 4 << 10
	bubble(t, o, func(t *testing.T, b *bed) {
		b.sendWords(1, 3)
		large := json.RawMessage(`"` + strings.Repeat("x", 4<<10) + `"`)
		_, err := b.Send(t.Context(), realtime.ToRoom("hall"), realtime.Message{Content: large})
		require.ErrorIs(t, err, realtime.ErrTooLarge)
		page, err := b.Room("hall").History(t.Context(), realtime.HistoryQuery{})
		require.NoError(t, err)
		require.Len(t, page.Messages, 3)
	})
}

// A broker that continues to publish after Send has returned does not race with it. The race
// detector checks this.
func TestPublishContinuesAfterSendReturned(t *testing.T) {
	o := keeping(100)
	l := &lateBroker{Broker: memory.New(nil)}
	o.Broker = l
	bubble(t, o, func(t *testing.T, b *bed) {
		b.follow("alice", "")
		for range 20 {
			_, err := b.Send(t.Context(), realtime.ToRoom("hall", "vip").Union(realtime.ToConn("x")),
				realtime.Message{Type: "news"})
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		l.work.Wait()
	})
}

// lateBroker publishes after its Publish has returned an error.
type lateBroker struct {
	*memory.Broker
	work sync.WaitGroup
}

func (l *lateBroker) Publish(
	_ context.Context, parts ...broker.Publication,
) ([]broker.Published, error) {
	l.work.Go(func() { _, _ = l.Broker.Publish(context.Background(), parts...) })
	return nil, context.DeadlineExceeded
}

// The caller of Send may change the message and its target after Send has returned, although a
// broker still has them.
func TestSendIsIndependentOfItsCaller(t *testing.T) {
	o, k := keeping(10), &keptParts{Broker: memory.New(nil)}
	o.Broker = k
	bubble(t, o, func(t *testing.T, b *bed) {
		to := realtime.Target{
			Rooms: []string{"hall"}, Users: []string{"alice"}, Conns: []string{"conn"},
			ExceptConns: []string{"other conn"}, ExceptUsers: []string{"bob"},
		}
		content := json.RawMessage(`"text"`)
		_, err := b.Send(t.Context(), to, realtime.Message{Content: content})
		require.NoError(t, err)
		_, err = b.Send(t.Context(), to, realtime.Message{Binary: content})
		require.NoError(t, err)
		before, err := json.Marshal(k.parts)
		require.NoError(t, err)
		for _, names := range [][]string{to.Rooms, to.Users, to.Conns, to.ExceptConns, to.ExceptUsers} {
			require.Contains(t, string(before), names[0])
			names[0] = "changed"
		}
		copy(content, `"next"`)
		after, err := json.Marshal(k.parts)
		require.NoError(t, err)
		require.JSONEq(t, string(before), string(after))
	})
}

// keptParts is a broker that keeps all parts that it is given.
type keptParts struct {
	*memory.Broker
	parts []broker.Publication
}

func (k *keptParts) Publish(
	_ context.Context, parts ...broker.Publication,
) ([]broker.Published, error) {
	k.parts = append(k.parts, parts...)
	return make([]broker.Published, len(parts)), nil
}
