package realtime_test

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
)

// jointly is a broker that takes a message when so many have come, and not the one for refuse.
type jointly struct {
	*realtime.Memory
	many    sync.WaitGroup
	refuse  string
	refusal error
}

func (b *jointly) Publish(ctx context.Context, p realtime.Publication) (realtime.Published, error) {
	b.many.Done()
	b.many.Wait()
	if p.Stream == b.refuse {
		return realtime.Published{}, b.refusal
	}
	return b.Memory.Publish(ctx, p)
}

// A broker that writes to a disk is as quick with many inboxes as with one.
func TestInboxesAreWrittenTogether(t *testing.T) {
	const users = 50
	var all []string
	for i := range users {
		all = append(all, fmt.Sprint("user", i))
	}
	broker := &jointly{
		Memory: realtime.NewMemory(nil), refuse: realtime.InboxStream("user7"), refusal: errors.New("no"),
	}
	var heard []string
	o := inboxes(100)
	o.Broker = broker
	o.Inbox.OnOffline = func(_ context.Context, user string, _ realtime.Message) { heard = append(heard, user) }
	bubble(t, o, func(t *testing.T, b *bed) {
		here := b.open("user3")
		here.hush()
		broker.many.Add(users)
		res, err := b.Send(t.Context(), realtime.ToUser(all...), realtime.Message{Type: "news"})
		require.ErrorIs(t, err, broker.refusal)
		require.Equal(t, users-1, res.Kept)
		require.Equal(t, users-2, res.Offline)
		require.Equal(t, 1, res.Queued)
		require.Len(t, heard, users-2)
		require.NotContains(t, heard, "user7")
		require.Equal(t, []string{"news null"}, here.got())
	})
}

// More inboxes than are written at once, of users who are there, also in a room that the message
// is for: each connection has it once.
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

// What can never be kept is refused, or not kept, and takes nothing else away.
func TestWhatCannotBeKept(t *testing.T) {
	o := keeping(100)
	o.History.Bytes = 4 << 10
	bubble(t, o, func(t *testing.T, b *bed) {
		b.tell(1, 3)
		large := json.RawMessage(`"` + strings.Repeat("x", 4<<10) + `"`)
		_, err := b.Send(t.Context(), realtime.ToRoom("hall"), realtime.Message{Content: large})
		require.ErrorIs(t, err, realtime.ErrTooLarge)
		page, err := b.Room("hall").History(t.Context(), realtime.Query{})
		require.NoError(t, err)
		require.Len(t, page.Publications, 3)
	})
}

// A client may send what is of use only now.
func TestClientSendsWhatIsNotKept(t *testing.T) {
	bubble(t, keeping(100), func(t *testing.T, b *bed) {
		alice, bob := b.openV1(realtime.Identity{UserID: "alice"}), b.open("bob")
		for _, c := range []*client{alice, bob} {
			_, err := b.Join(t.Context(), c.conn.ID(), "hall")
			require.NoError(t, err)
			c.hush()
		}
		for _, ttl := range []string{"-1", "-2", "-1.0", `"-1"`} {
			require.NoError(t, alice.Write([]byte(
				`{"type":"send","id":1,"room":"hall","message_type":"typing","ttl_ms":`+ttl+`}`)))
			require.Equal(t, ttl != "-1", strings.Contains(alice.raw()[0], "bad_request"), ttl)
		}
		require.Equal(t, []string{"typing null"}, bob.got())
		page, err := b.Room("hall").History(t.Context(), realtime.Query{})
		require.NoError(t, err)
		require.Empty(t, page.Publications)
	})
}
