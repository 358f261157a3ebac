package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker"
)

func TestDeadLetter(t *testing.T) {
	o := inboxes(100)
	var d diary
	o.Inbox.OnDeadLetter = func(_ context.Context, user string, m realtime.Message) {
		d.write(user + " " + string(m.Content))
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		b.sendToInbox("bob", 1, 3)
		id := realtime.Identity{UserID: "bob"}
		for range 2 {
			require.Equal(t, words(1, 3), b.openInboxAndBreakDown(id).takeWords())
		}
		bob := b.openInbox(id) // a connection that ends with a close frame does not count
		bob.Close(realtime.CloseNormal, "")
		synctest.Wait()
		require.Empty(t, d.read())
		require.Equal(t, words(1, 3), b.openInboxAndBreakDown(id).takeWords(), "the third that breaks down with it")
		require.Equal(t, []string{`bob "m1"`}, d.read())
		require.Equal(t, uint64(1), b.Stats().DeadLetters)
		require.Equal(t, words(2, 3), b.openInbox(id).takeWords())
	})
}

// A client that loses connections and resumes its session each time has no failed attempt.
func TestResumedConnectionIsNoFailedAttempt(t *testing.T) {
	var d diary
	o := inboxes(100)
	o.Inbox.OnDeadLetter = func(_ context.Context, user string, m realtime.Message) {
		d.write(user + " " + string(m.Content))
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		b.sendToInbox("bob", 1, 1)
		bob, w := b.session("bob")
		for range 10 {
			bob.Drop()
			synctest.Wait()
			next, its := b.session("bob")
			require.NotContains(t, next.resumes(w.Session), noSession)
			bob, w = next, its
		}
		bob.Drop()
		time.Sleep(16 * time.Second)
		b.openInboxAndBreakDown(realtime.Identity{UserID: "bob"})
		require.Empty(t, d.read(), "two")
		b.openInboxAndBreakDown(realtime.Identity{UserID: "bob"})
		require.Equal(t, []string{`bob "m1"`}, d.read())
	})
}

// openInboxAndBreakDown reads an inbox and is lost without an acknowledgement.
func (b *bed) openInboxAndBreakDown(id realtime.Identity) *inboxClient {
	b.t.Helper()
	box := b.openInbox(id)
	require.NoError(b.t, box.Write([]byte("ping")))
	synctest.Wait()
	box.Drop()
	time.Sleep(16 * time.Second) // until the session cannot be resumed
	synctest.Wait()
	return box
}

// A message that has expired was not given to the client, and so it is not the dead letter.
func TestExpiredMessageIsNoDeadLetter(t *testing.T) {
	o := inboxes(100)
	var d diary
	o.Inbox.OnDeadLetter = func(_ context.Context, user string, m realtime.Message) {
		d.write(user + " " + string(m.Content))
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		for i, ttl := range []time.Duration{time.Millisecond, time.Millisecond, 0} {
			_, err := b.Send(t.Context(), realtime.ToUser("bob"), realtime.Message{
				TTL: ttl, Content: json.RawMessage(fmt.Sprintf(`"m%d"`, i)),
			})
			require.NoError(t, err)
		}
		time.Sleep(time.Millisecond)
		b.sendToInbox("bob", 3, 3)
		id := realtime.Identity{UserID: "bob"}
		for range 3 {
			require.Equal(t, words(2, 3), b.openInboxAndBreakDown(id).takeWords())
		}
		require.Equal(t, []string{`bob "m2"`}, d.read())
		require.Equal(t, words(3, 3), b.openInbox(id).takeWords())
	})
}

// A message becomes a dead letter only if a client has received it in each attempt and did not
// continue after it.
func TestUnseenMessagesAreNoDeadLetters(t *testing.T) {
	for name, breakDown := range map[string]func(b *bed, id realtime.Identity){
		"tabs that are cut at once": func(b *bed, id realtime.Identity) {
			var tabs []*inboxClient
			for range 5 {
				tab := b.openInbox(id)
				require.NoError(b.t, tab.Write([]byte("ping")))
				tabs = append(tabs, tab)
			}
			synctest.Wait()
			for _, tab := range tabs {
				tab.Drop()
			}
		},
		"connections that are never heard": func(b *bed, id realtime.Identity) {
			for range 5 {
				quiet := b.openInbox(id)
				require.Equal(b.t, words(1, 3), quiet.takeWords())
				quiet.Drop()
				time.Sleep(time.Minute)
			}
		},
		"clients that stop before they read it": func(b *bed, id realtime.Identity) {
			for range 5 {
				transport, far := realtime.Pipe(realtime.V1)
				stuck := b.attach(transport, far, id) // it does not read
				require.NoError(b.t, stuck.Write([]byte("ping")))
				synctest.Wait()
				stuck.Drop()
				time.Sleep(time.Minute)
			}
		},
		"clients that resume": func(b *bed, id realtime.Identity) {
			bob, w := b.session(id.UserID)
			for range 5 {
				require.NoError(b.t, bob.Write([]byte("ping")))
				synctest.Wait()
				bob.Drop()
				time.Sleep(time.Second)
				next, its := b.session(id.UserID)
				require.NotContains(b.t, next.resumes(w.Session), noSession)
				bob, w = next, its
			}
			bob.Drop()
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := inboxes(100)
			var rt *realtime.Manager
			o.OnConnect = func(ctx context.Context, c *realtime.Conn) error { // more than a pipe holds
				large := json.RawMessage(`"` + strings.Repeat("x", 100<<10) + `"`)
				_, err := rt.Send(ctx, realtime.ToConn(c.ID()), realtime.Message{Content: large})
				return err
			}
			bubble(t, o, func(t *testing.T, b *bed) {
				rt = b.Manager
				b.sendToInbox("bob", 1, 3)
				id := realtime.Identity{UserID: "bob"}
				breakDown(b, id)
				time.Sleep(time.Minute)
				synctest.Wait()
				require.Zero(t, b.Stats().DeadLetters)
			})
		})
	}
}

// After an inbox has lost its messages, a connection that knows nothing of the new ones does not
// break down with them, although they have the offsets of earlier messages.
func TestMessagesOfAnotherEpochAreNoDeadLetters(t *testing.T) {
	o := inboxes(100)
	o.Inbox.Attempts = 1
	fb := newFakeBroker()
	o.Broker = fb
	bubble(t, o, func(t *testing.T, b *bed) {
		b.sendToInbox("bob", 1, 3)
		bob := b.openInbox(realtime.Identity{UserID: "bob"})
		require.NoError(t, bob.Write([]byte("ping")))
		require.Equal(t, words(1, 3), bob.takeWords())
		fb.withoutDelivery(func() {
			fb.loseStream(t, broker.InboxStream("bob"))
			b.sendToInbox("bob", 4, 4)
		})
		bob.Drop()
		time.Sleep(time.Minute)
		require.Zero(t, b.Stats().DeadLetters)
		require.Equal(t, words(4, 4), b.openInbox(realtime.Identity{UserID: "bob"}).takeWords())
	})
}

func TestCloseDuringOnSetAside(t *testing.T) {
	o := inboxes(100)
	o.Inbox.Attempts = 1
	var b *bed
	var d diary
	o.Inbox.OnDeadLetter = func(_ context.Context, _ string, m realtime.Message) {
		d.write(string(m.Content))
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	bubble(t, o, func(t *testing.T, bed *bed) {
		b = bed
		b.sendToInbox("bob", 1, 1)
		b.openInboxAndBreakDown(realtime.Identity{UserID: "bob"})
		require.Equal(t, []string{`"m1"`}, d.read())
	})
}
