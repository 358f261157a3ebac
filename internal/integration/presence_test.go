package integration_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// Notices are complete and in order: together they give the members of the room.
func TestNoticesGiveTheMembersOfARoom(t *testing.T) {
	bubble(t, announced(), func(t *testing.T, b *bed) {
		watcher := b.open("watcher")
		_, err := b.Join(t.Context(), watcher.conn.ID(), "lobby")
		require.NoError(t, err)
		var movers sync.WaitGroup
		for i := range 4 {
			movers.Go(func() {
				for j := range 51 {
					c := b.open(fmt.Sprint("user", i))
					_, _ = b.Join(t.Context(), c.conn.ID(), "lobby")
					if j < 50 {
						_, _ = b.Leave(t.Context(), c.conn.ID(), "lobby")
						_ = c.conn.Close(realtime.CloseNormal, "")
					}
				}
			})
		}
		movers.Wait()
		here, notices := map[string]bool{}, 0
		for _, line := range watcher.got() {
			user, what, _ := strings.Cut(line, " ")
			switch what {
			case "in lobby":
				require.False(t, here[user], line)
				here[user] = true
				notices++
			case "out lobby":
				require.True(t, here[user], line)
				delete(here, user)
				notices++
			}
		}
		require.ElementsMatch(t, b.members("lobby"), slices.Collect(maps.Keys(here)))
		require.Len(t, here, 5)
		require.Equal(t, 1+4*(2*50+1), notices)
	})
}

// What a room does not show, a client cannot ask for.
func TestPresenceObeysShow(t *testing.T) {
	o := realtime.Options{Show: realtime.ShowCount, Room: func(name string) realtime.RoomOptions {
		return realtime.RoomOptions{Show: map[string]realtime.Show{
			"nothing": realtime.ShowNothing, "members": realtime.ShowMembers,
		}[name]}
	}}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		for _, members := range []bool{false, true} {
			count, list := `"user_count":0,"connection_count":0`, `{}`
			if members {
				count, list = `"user_count":1,"connection_count":1`, `{"KEY":{"user":"alice"}}`
				b.joinAll(alice, "nothing", "count", "members")
				alice.discard()
			}
			for room, want := range map[string]string{
				"nothing": `{"message_type":"error","id":1,"content":{"code":"forbidden","message":"forbidden"}}`,
				"count":   `{"message_type":"reply","id":1,"content":{"show":"count",` + count + `}}`,
				"members": `{"message_type":"reply","id":1,"content":{"show":"members",` + count + `,"members":` + list + `}}`,
			} {
				got := alice.request(`{"type":"presence","id":1,"room":"` + room + `"}`)
				require.Equal(t, []string{want}, maskKeys(got))
			}
		}
		require.Equal(t, []string{"alice"}, b.members("nothing"), "the application knows it")
	})
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		require.Contains(t, alice.request(`{"type":"presence","id":1,"room":"hall"}`)[0], `"code":"forbidden"`)
	})
}

// maskKeys replaces the keys that the server has chosen.
func maskKeys(frames []string) []string {
	for i := range frames {
		frames[i] = chosenKey.ReplaceAllString(frames[i], `"KEY"`)
	}
	return frames
}

var chosenKey = regexp.MustCompile(`"[A-Z2-7]{8}"`)

func TestPresenceOfLargeAndEmptyRooms(t *testing.T) {
	o := realtime.Options{Show: realtime.ShowMembers, Limits: realtime.Limits{Conns: -1, InboundFanout: 1000}}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		alice.discard()
		ask := `{"type":"presence","id":1,"room":"lobby"}`
		require.Equal(t, []string{
			`{"message_type":"reply","id":1,"content":{"show":"members","user_count":0,"connection_count":0,"members":{}}}`,
		}, alice.request(ask))
		for i := range 1001 {
			transport, far := realtime.Pipe()
			defer far.Drop()
			c, err := b.Register(t.Context(), transport, realtime.Identity{UserID: fmt.Sprint("user", i)})
			require.NoError(t, err)
			_, err = b.Join(t.Context(), c.ID(), "lobby")
			require.NoError(t, err)
			if i == 999 {
				for b.Stats().Throttled == 0 { // each costs as much as a message to 1000
					for _, answer := range alice.request(ask) {
						require.Contains(t, answer, `"user_count":1000,"connection_count":1000,"members":{"`)
						require.Contains(t, answer, `"user":"user999"}}}}`)
					}
				}
				time.Sleep(5 * time.Second)
				alice.discard()
			}
		}
		require.Equal(t, []string{
			`{"message_type":"reply","id":1,"content":{"show":"count","user_count":1001,"connection_count":1001}}`,
		}, alice.request(ask))
	})
}

// An answer has the members at one time, also if users join and leave while the list is built.
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

	var users []string
	for _, frame := range watcher.raw() {
		var m struct {
			Content struct {
				Members map[string]entry
				Count   int `json:"user_count"`
			}
		}
		require.NoError(t, json.Unmarshal([]byte(frame), &m))
		users = nil
		for _, e := range m.Content.Members {
			users = append(users, e.User)
		}
		slices.Sort(users)
		require.Len(t, slices.Compact(slices.Clone(users)), m.Content.Count, frame)
	}
	require.Equal(t, b.members("hall"), users, "the last answer")
}
