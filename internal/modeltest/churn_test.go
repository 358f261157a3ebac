package modeltest

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

// TestChurn creates and ends one room and one user as often as possible. This finds races between a
// goroutine that looks one up and a goroutine that removes it.
func TestChurn(t *testing.T) {
	tests := map[string]func(*churn){
		"room": (*churn).room,
		"user": (*churn).user,
	}
	for name, play := range tests {
		t.Run(name, func(t *testing.T) { churns(t, play) })
	}
}

func churns(t *testing.T, play func(*churn)) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := &churn{ends: ends{t: t, ctx: ctx}}
	c.rt = realtime.New(&realtime.Options{
		AnnounceUsers: true,
		Limits:        realtime.Limits{QueueMessages: -1},
		Logger:        slog.New(slog.DiscardHandler),
		OnConnect:     c.connected,
		OnDisconnect:  c.disconnected,
	})
	defer c.rt.Close()
	observer := c.open(&end{user: "observer"})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { play(c) })
	}
	all.Wait()
	require.Empty(t, slices.Collect(c.rt.LocalRooms()))
	stats := c.rt.Stats()
	require.Equal(t, []int{1, 1, 0}, []int{stats.Conns, stats.Users, stats.Rooms})
	require.NoError(t, c.rt.Close())
	c.readers.Wait()
	c.checkNotices(observer)
}

type churn struct {
	ends
	n atomic.Int32 // number of goroutines started
}

// room joins and leaves one room, which is often empty.
func (c *churn) room() {
	var sent []string
	e := c.open(&end{user: fmt.Sprint("visitor", c.n.Add(1))})
	for n := range 4000 {
		joined, err := c.rt.Join(c.ctx, e.conn.ID(), "inn")
		c.expect(joined && err == nil, "join")
		c.expect(c.isMember(e), "member after the join")
		text := fmt.Sprintf("%s/%d/inn", e.user, n)
		_, err = c.rt.Send(c.ctx, realtime.ToRoom("inn"), realtime.Chat("", text))
		c.expect(err == nil, "send")
		sent = append(sent, text)
		left, err := c.rt.Leave(c.ctx, e.conn.ID(), "inn")
		c.expect(left && err == nil, "leave")
		c.expect(!c.isMember(e), "no member after the leave")
	}
	c.ping(e)
	own := slices.DeleteFunc(slices.Clone(e.got), func(text string) bool {
		return !strings.HasPrefix(text, e.user)
	})
	c.expect(slices.Equal(sent, own), "got what it sent to its room")
	e.pipe.Drop()
	c.await(e)
}

func (c *churn) isMember(e *end) bool {
	members, _ := c.rt.Room("inn").Users(c.ctx)
	return slices.Contains(members, e.user)
}

// user connects and disconnects one user, who often has other connections.
func (c *churn) user() {
	for range 1000 {
		e := c.open(&end{user: "ann"})
		n, _ := c.rt.User("ann").Count(c.ctx)
		c.expect(n > 0, "connected")
		result, err := c.rt.Send(c.ctx, realtime.ToUser("ann"), realtime.Chat("", "x/1/y"))
		c.expect(result.Queued > 0 && result.Offline == 0 && err == nil, "send to a user")
		e.pipe.Drop()
		c.await(e)
	}
}

func (c *churn) expect(ok bool, what string) {
	if !ok {
		c.t.Errorf("failed: %s", what)
	}
}

// checkNotices checks that the notices about ann alternate between joined and left.
func (c *churn) checkNotices(observer *end) {
	told := "userleft"
	for _, notice := range observer.seen {
		if notice.user != "ann" {
			continue
		}
		require.NotEqual(c.t, told, notice.what)
		told = notice.what
	}
	require.Equal(c.t, "userleft", told)
}
