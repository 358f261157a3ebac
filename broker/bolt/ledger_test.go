package bolt

import (
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

// shared returns a message to an inbox that keeps ten.
func shared(sender string, n int) broker.Publication {
	p := counting("user/bob", n, 10)
	p.Message.Sender, p.Shared = sender, true
	return p
}

// A publication that was not committed counts for no sender.
func TestLedgerAfterFailure(t *testing.T) {
	for _, how := range []int{nothing, phantom} {
		f := openFlaky(t, filepath.Join(t.TempDir(), "streams.db"), nil)
		n := 0
		offer := func(sender string, times int) (kept int) {
			for range times {
				n++
				out, err := one(f.Publish(t.Context(), shared(sender, n)))
				if err == nil && !out.Full {
					kept++
				}
			}
			return kept
		}
		require.Equal(t, 1, offer("alice", 1))
		require.Equal(t, 5, offer("mallory", 8))
		f.fail(how)
		require.Zero(t, offer("alice", 3))
		f.fail(fine)
		require.Zero(t, offer("mallory", 1))
		require.Equal(t, 2, offer("alice", 5))
		require.NoError(t, f.Close(t.Context()))
	}
}

// Memory does not grow with the number of half-full inboxes.
func TestLedgersAreBounded(t *testing.T) {
	b, err := Open(filepath.Join(t.TempDir(), "streams.db"), nil)
	require.NoError(t, err)
	fill := func(user string) {
		for n := range 12 {
			p := shared("mallory", n)
			p.Stream = broker.InboxStream(user)
			_, err := b.Publish(t.Context(), p)
			require.NoError(t, err)
		}
	}
	look := func(f func()) {
		require.NoError(t, b.submit(t.Context(), &task{do: func(*batch) error { f(); return nil }}))
	}
	for user := range 5 {
		fill(strconv.Itoa(user))
	}
	look(func() {
		require.Len(t, b.ledgers, 5)
		require.Equal(t, 25, b.entries)
		b.entries = maxLedger
	})
	fill("one more")
	look(func() {
		require.Len(t, b.ledgers, 1)
		require.Equal(t, 5, b.entries)
	})
	require.NoError(t, b.Close(t.Context()))
}

// The names of users' ids are the same as in older versions, and those of anonymous clients differ
// from them.
func TestIDNames(t *testing.T) {
	require.Equal(t, "\x05alice1", idName(&broker.Message{Sender: "alice", ID: "1"}))
	require.Equal(t, "\x001", idName(&broker.Message{ID: "1"}))
	names := map[string]broker.Message{}
	for _, m := range []broker.Message{
		{ID: "abc"}, {Sender: "a", ID: "bc"}, {Guest: "a", ID: "bc"}, {Guest: "ab", ID: "c"},
		{Sender: "a", Guest: "b", ID: "c"}, {Sender: "b", Guest: "a", ID: "c"},
		{ID: "\x01a\x00bc"}, {Sender: "\x01a", ID: "bc"},
	} {
		name := idName(&m)
		require.NotContains(t, names, name, "%+v", m)
		names[name] = m
	}
}
