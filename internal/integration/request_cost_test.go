package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// crowd puts n users with long names into a room.
func (b *bed) crowd(room string, n int) {
	for i := range n {
		transport, far := realtime.Pipe()
		b.t.Cleanup(far.Drop)
		user := fmt.Sprint(strings.Repeat("n", 200), i)
		c, err := b.Register(b.t.Context(), transport, realtime.Identity{UserID: user})
		require.NoError(b.t, err)
		_, err = b.Join(b.t.Context(), c.ID(), room)
		require.NoError(b.t, err)
	}
}

// TestPrices checks that a request costs the client that makes it what it makes the server do: in
// decisions, in bytes and in receivers.
func TestPrices(t *testing.T) {
	history := keeping(1000)
	history.InboundBytes = 100 << 10
	told := realtime.Options{Announce: realtime.AnnounceRooms, InboundFanout: 100, MaxConnsPerUser: 3}
	plenty := realtime.Options{InboundBytes: 100 << 10, MaxConns: -1}
	asked := realtime.Options{
		InboundRate: 20, QueueMessages: 40,
		Revalidate: func(context.Context, *realtime.Conn, string) (realtime.Identity, error) {
			return realtime.Identity{UserID: "alice"}, nil
		},
	}
	for name, test := range map[string]struct {
		options  realtime.Options
		setUp    func(b *bed, alice *client)
		requests []string
	}{
		"presence": {plenty, func(b *bed, _ *client) { b.crowd("hall", 500) },
			[]string{`{"type":"presence","id":1,"room":"hall"}`}},
		"history": {history, func(b *bed, _ *client) { b.tell(1, 1000) },
			[]string{`{"type":"history","id":1,"room":"hall","limit":1000}`}},
		"join with history": {history, func(b *bed, _ *client) { b.tell(1, 1000) },
			[]string{`{"type":"join","id":1,"room":"hall","history":1000}`}},
		"join with since": {history, func(b *bed, _ *client) { b.tell(1, 1000) },
			[]string{`{"type":"join","id":1,"room":"hall","since":{"epoch":"EPOCH","offset":0}}`}},
		"join and leave": {told, func(b *bed, _ *client) { b.crowd("hall", 300) },
			[]string{`{"type":"join","id":1,"room":"hall"}`, `{"type":"leave","id":1,"room":"hall"}`}},
		"refresh": {asked, func(b *bed, alice *client) {
			for i := range 20 {
				alice.asks(fmt.Sprintf(`{"type":"join","id":1,"room":"room %d"}`, i))
				time.Sleep(2 * time.Second)
			}
		}, []string{`{"type":"refresh","id":1,"token":"t"}`}},
	} {
		t.Run(name, func(t *testing.T) {
			test.options.PingInterval = -1 // the crowd does not read
			bubble(t, test.options, func(t *testing.T, b *bed) {
				alice := b.openV1(realtime.Identity{UserID: "alice"})
				test.setUp(b, alice)
				alice.hush()
				before := b.Stats().Throttled
				epoch := ""
				if page, err := b.Room("hall").History(t.Context(), realtime.HistoryQuery{}); err == nil {
					epoch = page.Top.Epoch
				}
				const rounds = 60
				began := time.Now()
				for range rounds {
					for _, request := range test.requests {
						request = strings.Replace(request, "EPOCH", epoch, 1)
						require.NoError(t, alice.Write([]byte(request)))
					}
					time.Sleep(20 * time.Millisecond)
				}
				time.Sleep(time.Second)
				require.NotZero(t, b.Stats().Throttled-before, "%v", time.Since(began))
			})
		})
	}
}

// TestPresenceOfARoomThatChanges checks that the answer has its place among the notices, though
// the list is made while users come and go: a client that follows both knows who is there.
func TestPresenceOfARoomThatChanges(t *testing.T) {
	o := realtime.Options{
		Announce: realtime.AnnounceRooms, InboundRate: -1, QueueMessages: 1 << 20, QueueBytes: -1, PingInterval: -1,
	}
	bubble(t, o, func(t *testing.T, b *bed) { presenceOfARoomThatChanges(t, b) })
}

func presenceOfARoomThatChanges(t *testing.T, b *bed) {
	watcher := b.openV1(realtime.Identity{UserID: "watcher"})
	b.join("hall", watcher)
	var conns []*realtime.Conn
	for i := range 50 {
		transport, far := realtime.Pipe()
		t.Cleanup(far.Drop)
		c, err := b.Register(t.Context(), transport, realtime.Identity{UserID: fmt.Sprint("user", i)})
		require.NoError(t, err)
		conns = append(conns, c)
	}
	var movers sync.WaitGroup
	for part := range slices.Chunk(conns, 10) {
		movers.Go(func() {
			for range 300 {
				c := part[rand.IntN(len(part))]
				if _, err := b.Join(t.Context(), c.ID(), "hall"); err == nil && rand.IntN(3) > 0 {
					_, _ = b.Leave(t.Context(), c.ID(), "hall")
				}
			}
		})
	}
	for i := range 300 {
		require.NoError(t, watcher.Write(fmt.Appendf(nil, `{"type":"presence","id":%d,"room":"hall"}`, i)))
	}
	movers.Wait()
	require.NoError(t, watcher.Write([]byte(`{"type":"presence","id":"last","room":"hall"}`)))

	here := map[string]bool{}
	for last := false; !last; {
		for _, frame := range watcher.raw() {
			var m struct {
				Type    string          `json:"message_type"`
				ID      json.RawMessage `json:"id"`
				Content struct {
					Type  string
					User  string `json:"user_id"`
					Users []string
				}
			}
			require.NoError(t, json.Unmarshal([]byte(strings.Replace(frame, `"timestamp":T`, `"timestamp":0`, 1)), &m))
			switch {
			case m.Type == "reply":
				now := map[string]bool{}
				for _, user := range m.Content.Users {
					now[user] = true
				}
				if len(m.ID) > 0 && string(m.ID) != "0" { // the first one says how it begins
					require.Equal(t, now, here, "answer %s", m.ID)
				}
				here, last = now, string(m.ID) == `"last"`
			case m.Content.Type == "room_join":
				here[m.Content.User] = true
			case m.Content.Type == "room_leave":
				delete(here, m.Content.User)
			}
		}
	}
}
