package integration_test

import (
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

// places are the targets of the messages in TestOrderOfUnions: rooms with and without history, and
// a user with an inbox.
var places = []string{"a", "b", "plain", "other", "bob"}

func targetOf(place string) realtime.Target {
	if place == "bob" {
		return realtime.ToUser(place)
	}
	return realtime.ToRoom(place)
}

// Several senders send to one place and to unions of places. Each member of a room receives each
// message to the room once, and all members receive them in one order.
func TestOrderOfUnions(t *testing.T) {
	for _, keeps := range []bool{true, false} {
		t.Run(fmt.Sprint("kept ", keeps), func(t *testing.T) {
			o := realtime.Options{Limits: realtime.Limits{QueueMessages: 10_000}}
			if keeps {
				o.History = realtime.Retention{Messages: 10_000, Bytes: -1}
				o.Inbox.Keep = o.History
			}
			o.Room = func(name string) realtime.RoomOptions {
				if name == "plain" || name == "other" {
					return realtime.RoomOptions{History: realtime.Retention{Messages: -1}}
				}
				return realtime.RoomOptions{}
			}
			bubble(t, o, orderOfUnions)
		})
	}
}

func orderOfUnions(t *testing.T, b *bed) {
	in := map[string][]*client{} // the clients in a place
	enter := func(user string, rooms ...string) {
		c := b.open(user)
		b.joinAll(c, rooms...)
		for _, room := range rooms {
			in[room] = append(in[room], c)
		}
		if user == "bob" {
			in[user] = append(in[user], c)
		}
	}
	enter("", "a")
	enter("", "b")
	enter("", "plain")
	enter("", "other")
	enter("", "a", "b", "plain", "other")
	enter("", "plain", "other")
	enter("", "b", "plain")
	enter("bob", "a", "plain")
	enter("bob", "b")
	enter("bob")
	const senders, each = 4, 150
	var mu sync.Mutex
	sent := map[string]map[int]bool{} // the messages to a place
	for _, place := range places {
		sent[place] = map[int]bool{}
	}
	var all sync.WaitGroup
	for sender := range senders {
		all.Go(func() {
			dice := rand.New(rand.NewPCG(uint64(sender), 3))
			for i := range each {
				n := sender*1000 + i
				var to realtime.Target
				mu.Lock()
				for _, at := range dice.Perm(len(places))[:1+dice.IntN(3)] {
					to = to.Union(targetOf(places[at]))
					sent[places[at]][n] = true
				}
				mu.Unlock()
				_, err := b.Send(t.Context(), to,
					realtime.Message{Content: json.RawMessage(fmt.Sprintf(`"%d"`, n))})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	time.Sleep(time.Minute) // lagging connections have caught up
	got := map[*client][]int{}
	for _, place := range places {
		for _, c := range in[place] {
			if got[c] == nil {
				got[c] = leadingNumbers(t, c.raw())
			}
		}
	}
	for _, place := range places {
		var first []int
		for i, c := range in[place] {
			mine := slices.DeleteFunc(slices.Clone(got[c]), func(n int) bool { return !sent[place][n] })
			require.Len(t, mine, len(sent[place]), "each once in %s", place)
			if i == 0 {
				first = mine
			}
			require.Equal(t, first, mine, "one order in %s", place)
		}
	}
	for c, all := range got {
		last := map[int]int{}
		for _, n := range all {
			require.Greater(t, n+1, last[n/1000], "order of a sender, of %v", c)
			last[n/1000] = n + 1
		}
	}
}

func TestOrderOfSendersAndRooms(t *testing.T) {
	bubble(t, realtime.Options{Limits: realtime.Limits{InboundRate: -1}}, func(t *testing.T, b *bed) {
		var members []*client
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			members = append(members, b.open(name))
		}
		b.join("lobby", members...)
		for _, m := range members {
			m.discard()
		}
		done := make(chan struct{})
		for _, m := range members {
			go func() {
				for i := range 100 {
					m.say(strings.Repeat("x", i), "room")
				}
				done <- struct{}{}
			}()
		}
		for range members {
			<-done
		}
		first := members[0].got()
		require.Len(t, first, 500)
		last := map[string]int{}
		for _, line := range first {
			sender, text, _ := strings.Cut(line, ": ")
			require.Equal(t, last[sender], len(text), "each sender's messages in order")
			last[sender]++
		}
		for _, m := range members[1:] {
			require.Equal(t, first, m.got(), "the same order for every member")
		}
	})
}
