package client_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// inboxes are Options that keep messages for users.
func inboxes() realtime.Options {
	return realtime.Options{Inbox: realtime.InboxOptions{Keep: realtime.Retention{Messages: 10_000}}}
}

// write sends messages to bob.
func (w *world) write(from, to int) {
	w.t.Helper()
	for i := from; i <= to; i++ {
		res, err := w.rt.Send(w.t.Context(), realtime.ToUser("bob"), realtime.Message{
			Sender: "alice", Content: json.RawMessage(fmt.Sprint(i)),
		})
		require.NoError(w.t, err)
		require.Equal(w.t, 1, res.Kept)
	}
}

// Bob gets what was written to him while he was away, once, over however many connections.
func TestInboxOfTheServer(t *testing.T) {
	bubble(t, inboxes(), func(t *testing.T, w *world) {
		w.write(1, 3)
		bob := w.dial("bob")
		synctest.Wait()
		require.Equal(t, []string{"alice: 1", "alice: 2", "alice: 3"}, bob.got())
		w.write(4, 4)
		w.cut()
		w.write(5, 6)
		bob.back()
		synctest.Wait()
		require.Equal(t, []string{"alice: 4", "alice: 5", "alice: 6"}, bob.kept())
		require.NoError(t, bob.Close())
		synctest.Wait()
		w.write(7, 7)
		again := w.dial("bob")
		synctest.Wait()
		require.Equal(t, []string{"alice: 7"}, again.got(), "the rest was acknowledged")
	})
}

// kept is got without gaps of connections, which are about what nobody keeps.
func (r *rig) kept() (lines []string) {
	for _, line := range r.got() {
		if line != "gap 1006" {
			lines = append(lines, line)
		}
	}
	return lines
}

// However often the line is cut, bob gets everything once and in order.
func TestInboxWithCuts(t *testing.T) {
	for seed := range uint64(20) {
		o := inboxes()
		o.QueueMessages, o.InboundRate, o.Inbox.Attempts = 16, -1, -1
		bubble(t, o, func(t *testing.T, w *world) {
			dice, n := rand.New(rand.NewPCG(seed, 0)), 0
			bob := w.dial("bob")
			for range 30 {
				k := dice.IntN(40)
				w.write(n+1, n+k)
				n += k
				if dice.IntN(2) == 0 {
					time.Sleep(time.Duration(dice.IntN(3000)) * time.Millisecond)
				}
				w.cut()
			}
			time.Sleep(time.Minute)
			var want []string
			for i := range n {
				want = append(want, fmt.Sprint("alice: ", i+1))
			}
			require.Equal(t, want, bob.kept(), "seed %d", seed)
		})
	}
}

// Somebody whose line is cut comes back, and nobody hears of it.
func TestSessionOfTheServer(t *testing.T) {
	o := realtime.Options{Announce: realtime.AnnounceUsers | realtime.AnnounceRooms}
	bubble(t, o, func(t *testing.T, w *world) {
		alice := w.dial("alice")
		alice.join("lobby")
		bob := w.dial("bob")
		bob.join("lobby")
		_, err := bob.Ping(t.Context())
		require.NoError(t, err)
		bob.got()
		alice.got()
		w.cut()
		alice.back()
		bob.back()
		for _, r := range []*rig{alice, bob} {
			_, err := r.Ping(t.Context())
			require.NoError(t, err)
			require.Empty(t, r.kept())
		}
		require.Equal(t, uint64(2), w.rt.Stats().Resumed)
		time.Sleep(time.Minute)
		users, err := w.rt.Room("lobby").Members(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{"alice", "bob"}, users)
		require.Empty(t, bob.got())
	})
}
