package integration_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// sendLarge sends n large messages to a user, with receipts, and returns the number of those that
// are kept.
func (c *client) sendLarge(user string, n, size int) (kept int) {
	c.t.Helper()
	for i := range n {
		answer := strings.Join(c.request(fmt.Sprintf(
			`{"type":"send","id":%d,"user":%q,"content":"%0*d","receipt":true}`, i+1, user, size, i)), "")
		if strings.Contains(answer, `"kept":true`) {
			kept++
		} else {
			require.Contains(c.t, answer, `"code":"limit"`)
		}
	}
	return kept
}

// A sender cannot remove a message from an inbox after its sender was told that it is kept.
func TestInboxIsSharedBySenders(t *testing.T) {
	o := inboxes(1000)
	o.Limits.InboundRate = -1
	offline := 0
	o.Inbox.OnOffline = func(context.Context, string, realtime.Message) { offline++ }
	bubble(t, o, func(t *testing.T, b *bed) {
		alice, mallory := b.openV1(realtime.Identity{UserID: "alice"}), b.openV1(realtime.Identity{UserID: "mallory"})
		guest := b.openV1(realtime.Identity{})
		require.Equal(t, 1, alice.sendLarge("bob", 1, 10))
		n := mallory.sendLarge("bob", 30, 60_000)
		require.InDelta(t, (1<<20)/2/60_000, n, 1)
		require.Less(t, guest.sendLarge("bob", 30, 60_000), n)
		require.NotZero(t, alice.sendLarge("bob", 1, 10), "there is room for others")
		b.sendToInbox("bob", 1, 2)
		before := offline
		require.Zero(t, mallory.sendLarge("bob", 3, 60_000))
		refused := mallory.request(`{"type":"send","id":1,"user":"bob","content":"` + strings.Repeat("x", 60_000) + `"}`)
		require.Contains(t, strings.Join(refused, ""), `"message":"no more may be kept: the inbox has the sender's share"`)
		require.Equal(t, before, offline, "no call for a message that is not kept")

		bob := b.openV1(realtime.Identity{UserID: "bob"})
		all := strings.Join(bob.raw(), "\n")
		require.Equal(t, 2, strings.Count(all, `"sender_id":"alice"`))
		require.Equal(t, n, strings.Count(all, `"sender_id":"mallory"`))
		require.NotContains(t, all, `"reason"`, "nothing is missing")
	})
}

// An acknowledged message makes room for another one of its sender.
func TestAcknowledgementFreesInbox(t *testing.T) {
	o := inboxes(10)
	o.Limits.InboundRate = -1
	bubble(t, o, func(t *testing.T, b *bed) {
		mallory := b.openV1(realtime.Identity{UserID: "mallory"})
		require.Equal(t, 5, mallory.sendLarge("bob", 10, 10))
		bob := b.openInbox(realtime.Identity{UserID: "bob"})
		require.Zero(t, mallory.sendLarge("bob", 1, 10), "it is not acknowledged")
		require.Empty(t, bob.raw(), "not delivered either")
		bob.ack(bob.at)
		require.Equal(t, 5, mallory.sendLarge("bob", 10, 10))
		plain := b.open("carol")
		require.Equal(t, 50, mallory.sendLarge("carol", 50, 10), "a client that takes them")
		require.Len(t, plain.got(), 51)
	})
}
