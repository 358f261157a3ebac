package integration_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// The answer to a presence request has its place in the order of the notices: together they always
// give the members of the room.
func TestPresenceFollowsNotices(t *testing.T) {
	bubble(t, announced(), func(t *testing.T, b *bed) {
		watcher := b.openV1(realtime.Identity{UserID: "watcher"})
		_, err := b.Join(t.Context(), watcher.conn.ID(), "lobby")
		require.NoError(t, err)
		done := make(chan struct{})
		for i := range 4 {
			go func() {
				defer func() { done <- struct{}{} }()
				for j := range 50 {
					c := b.open(fmt.Sprint("user", i))
					_, _ = b.Join(t.Context(), c.conn.ID(), "lobby")
					if j%2 == 0 {
						_, _ = b.Leave(t.Context(), c.conn.ID(), "lobby")
					}
					_ = c.conn.Close(realtime.CloseNormal, "")
				}
			}()
		}
		for range 100 {
			require.NoError(t, watcher.Write([]byte(`{"type":"presence","id":1,"room":"lobby"}`)))
		}
		for range 4 {
			<-done
		}
		require.NoError(t, watcher.Write([]byte(`{"type":"presence","id":1,"room":"lobby"}`)))
		requireExact(t, watcher.raw())
	})
}

// requireExact applies the notices of a room and compares the result with each answer.
func requireExact(t *testing.T, frames []string) {
	t.Helper()
	var in map[string]bool
	answers := 0
	for _, frame := range frames {
		var f struct {
			Type    string `json:"message_type"`
			Content struct {
				Type  string
				User  string `json:"user_id"`
				Users []string
				Count int `json:"user_count"`
			}
		}
		require.NoError(t, json.Unmarshal([]byte(frame), &f))
		switch {
		case f.Type == "reply":
			answers++
			require.Len(t, f.Content.Users, f.Content.Count)
			if in != nil {
				require.Len(t, f.Content.Users, len(in), frame)
			}
			in = map[string]bool{}
			for _, user := range f.Content.Users {
				in[user] = true
			}
		case in == nil:
		case f.Content.Type == "room_join":
			in[f.Content.User] = true
		case f.Content.Type == "room_leave":
			delete(in, f.Content.User)
		}
	}
	require.Greater(t, answers, 10)
}

func TestPresenceOfLargeAndEmptyRooms(t *testing.T) {
	o := realtime.Options{Limits: realtime.Limits{Conns: -1, InboundFanout: 1000}}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		ask := `{"type":"presence","id":1,"room":"lobby"}`
		require.Equal(t, []string{
			`{"message_type":"reply","id":1,"content":{"users":[],"user_count":0,"connection_count":0}}`,
		}, alice.request(ask))
		for i := range 1001 {
			transport, far := realtime.Pipe()
			defer far.Drop()
			c, err := b.Register(t.Context(), transport, realtime.Identity{UserID: fmt.Sprint("user", i)})
			require.NoError(t, err)
			_, err = b.Join(t.Context(), c.ID(), "lobby")
			require.NoError(t, err)
			if i == 999 {
				require.Contains(t, alice.request(ask)[0], `"user999"],"user_count":1000,"connection_count":1000}}`)
			}
		}
		require.Equal(t, []string{
			`{"message_type":"reply","id":1,"content":{"users":null,"user_count":1001,"connection_count":1001}}`,
		}, alice.request(ask))
		require.Zero(t, b.Stats().Throttled)
		for range 11 { // each costs as much as a message to 1000
			_, err := b.Room("lobby").Remove(t.Context(), "user1000")
			require.NoError(t, err)
			alice.request(ask)
		}
		require.NotZero(t, b.Stats().Throttled)
	})
}

// The answer has its place in the order of the notices, also if users join and leave while the list
// is built.
func TestPresenceOfAChangingRoom(t *testing.T) {
	o := realtime.Options{
		Show: realtime.ShowMembers, Limits: realtime.Limits{InboundRate: -1, QueueMessages: 1 << 20, QueueBytes: -1}, Timeouts: realtime.Timeouts{Ping: -1},
	}
	bubble(t, o, func(t *testing.T, b *bed) { presenceOfAChangingRoom(t, b) })
}

func presenceOfAChangingRoom(t *testing.T, b *bed) {
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
				if len(m.ID) > 0 && string(m.ID) != "0" { // the first answer
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
