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

// inboxOptions returns options with which the server keeps messages for users.
func inboxOptions() realtime.Options {
	return realtime.Options{Inbox: realtime.InboxOptions{Keep: realtime.Retention{Messages: 10_000}}}
}

// sendToBob sends numbered messages to bob.
func (w *testEnv) sendToBob(from, to int) {
	w.t.Helper()
	for i := from; i <= to; i++ {
		res, err := w.rt.Send(w.t.Context(), realtime.ToUser("bob"), realtime.Message{
			Sender: "alice", Content: json.RawMessage(fmt.Sprint(i)),
		})
		require.NoError(w.t, err)
		require.Equal(w.t, 1, res.Kept)
	}
}

// TestServerInbox tests that a user receives messages sent while disconnected, once, over any
// number of connections.
func TestServerInbox(t *testing.T) {
	withManager(t, inboxOptions(), func(t *testing.T, w *testEnv) {
		w.sendToBob(1, 3)
		bob := w.dial("bob")
		synctest.Wait()
		require.Equal(t, []string{"alice: 1", "alice: 2", "alice: 3"}, bob.received())
		w.sendToBob(4, 4)
		w.cutAll()
		w.sendToBob(5, 6)
		bob.awaitReconnect()
		synctest.Wait()
		require.Equal(t, []string{"alice: 4", "alice: 5", "alice: 6"}, bob.receivedKept())
		require.NoError(t, bob.Close())
		synctest.Wait()
		w.sendToBob(7, 7)
		again := w.dial("bob")
		synctest.Wait()
		require.Equal(t, []string{"alice: 7"}, again.received(), "the rest was acknowledged")
	})
}

// receivedKept is received without gaps of connections, which concern only messages that are not
// kept.
func (r *testClient) receivedKept() (lines []string) {
	for _, line := range r.received() {
		if line != "gap 1006" {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestInboxWithCuts tests that a user receives everything once and in order however often the
// connection is lost.
func TestInboxWithCuts(t *testing.T) {
	for seed := range uint64(20) {
		o := inboxOptions()
		o.Limits.QueueMessages, o.Limits.InboundRate, o.Inbox.Attempts = 16, -1, -1
		withManager(t, o, func(t *testing.T, w *testEnv) {
			dice, n := rand.New(rand.NewPCG(seed, 0)), 0
			bob := w.dial("bob")
			for range 30 {
				k := dice.IntN(40)
				w.sendToBob(n+1, n+k)
				n += k
				if dice.IntN(2) == 0 {
					time.Sleep(time.Duration(dice.IntN(3000)) * time.Millisecond)
				}
				w.cutAll()
			}
			time.Sleep(time.Minute)
			var want []string
			for i := range n {
				want = append(want, fmt.Sprint("alice: ", i+1))
			}
			require.Equal(t, want, bob.receivedKept(), "seed %d", seed)
		})
	}
}

// TestServerSession tests that a client that loses its connection and reconnects causes no notices.
func TestServerSession(t *testing.T) {
	o := realtime.Options{Show: realtime.ShowMembers, AnnounceUsers: true}
	withManager(t, o, func(t *testing.T, w *testEnv) {
		alice := w.dial("alice")
		alice.join("lobby")
		bob := w.dial("bob")
		bob.join("lobby")
		_, err := bob.Ping(t.Context())
		require.NoError(t, err)
		bob.received()
		alice.received()
		w.cutAll()
		alice.awaitReconnect()
		bob.awaitReconnect()
		for _, r := range []*testClient{alice, bob} {
			_, err := r.Ping(t.Context())
			require.NoError(t, err)
			require.Empty(t, r.receivedKept())
		}
		require.Equal(t, uint64(2), w.rt.Stats().Resumed)
		time.Sleep(time.Minute)
		users, err := w.rt.Room("lobby").Users(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{"alice", "bob"}, users)
		require.Empty(t, bob.received())
	})
}
