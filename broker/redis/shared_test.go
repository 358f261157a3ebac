package redis_test

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/brokertest"
	"github.com/realtime-go/realtime/broker/redis"
)

func TestDurable(t *testing.T) {
	s := start(t)
	brokertest.RunDurable(t, func(t *testing.T, dir string) broker.Broker {
		o := s.options()
		o.Prefix = dir
		b, err := redis.New(o)
		require.NoError(t, err)
		return b
	})
}

// Publications of two processes have one order everywhere, and own ones come with their origin
// before Publish returns.
func TestOneOrder(t *testing.T) {
	s := start(t)
	a, b := join(t, s.options()), join(t, s.options())
	for _, n := range []*node{a, b} {
		n.subscribe("room/a")
	}
	const each = 200
	var all sync.WaitGroup
	for i, n := range []*node{a, b, a, b} {
		all.Go(func() {
			for j := range each {
				p := note("room/a", j)
				p.Message.Content = []byte(strconv.Quote(fmt.Sprint(i, "-", j)))
				p.Origin = n
				out, err := n.Publish(t.Context(), p)
				if err != nil {
					t.Error(err)
					return
				}
				n.mu.Lock()
				last := n.got[len(n.got)-1]
				if last.Position.Offset < out[0].Position.Offset {
					t.Errorf("%d is not delivered", out[0].Position.Offset)
				}
				n.mu.Unlock()
			}
		})
	}
	all.Wait()
	var want []string
	page := a.page("room/a", broker.Query{Limit: 10_000, Bytes: 10 << 20})
	want = contents(page)
	require.Len(t, want, 4*each)
	for _, n := range []*node{a, b} {
		eventually(t, func() bool { return len(n.delivered("room/a")) == 4*each })
		require.Equal(t, want, n.delivered("room/a"))
		for _, p := range n.got {
			own := p.Message.Content[1] == '0' || p.Message.Content[1] == '2'
			if own == (n == a) {
				require.Equal(t, any(n), p.Origin)
			} else {
				require.Nil(t, p.Origin)
			}
		}
		require.Empty(t, n.losses())
		require.Empty(t, n.isCut())
	}
}

func TestIDsAndCursorsAreShared(t *testing.T) {
	s := start(t)
	a, b := join(t, s.options()), join(t, s.options())
	p := note("user/a", 1)
	p.Message.ID = "1"
	at := a.publish(p).Position
	out := b.publish(p)
	require.True(t, out.Duplicate)
	require.Equal(t, at, out.Position)
	require.NoError(t, a.Ack(t.Context(), "user/a", "r", at))
	cursor, err := b.Cursor(t.Context(), "user/a", "r")
	require.NoError(t, err)
	require.Equal(t, at, cursor)
}

// A reader that came before the first publication, which another process makes, has missed what is
// discarded.
func TestEarlyReader(t *testing.T) {
	s := start(t)
	a, b := join(t, s.options()), join(t, s.options())
	at := a.subscribe("user/a")
	got, err := a.Cursor(t.Context(), "user/a", "r")
	require.NoError(t, err)
	require.Equal(t, at, got)
	for i := range 3 {
		p := note("user/a", i)
		p.Keep.Messages = 1
		b.publish(p)
	}
	got, err = a.Cursor(t.Context(), "user/a", "r")
	require.NoError(t, err)
	require.Equal(t, at, got)
	eventually(t, func() bool {
		got, err := b.Cursor(t.Context(), "user/a", "r")
		return err == nil && got == at
	})
}

func TestUnsubscribeIsOfOneProcess(t *testing.T) {
	s := start(t)
	a, b := join(t, s.options()), join(t, s.options())
	a.subscribe("room/a")
	b.subscribe("room/a")
	require.NoError(t, a.Unsubscribe(t.Context(), "room/a"))
	a.publish(note("room/a", 1))
	eventually(t, func() bool { return len(b.delivered("room/a")) == 1 })
	require.Empty(t, a.delivered("room/a"))
}

func TestSend(t *testing.T) {
	s := start(t)
	a, b, c := join(t, s.options()), join(t, s.options()), join(t, s.options())
	for _, n := range []*node{a, b} {
		require.NoError(t, n.Listen(t.Context(), "x"))
	}
	require.NoError(t, b.Listen(t.Context(), "y"))
	for i := range 100 {
		n, err := a.Send(t.Context(), []byte(strconv.Itoa(i)), "x", "y", "nobody")
		require.NoError(t, err)
		require.Equal(t, 2, n)
	}
	eventually(t, func() bool { return len(b.receipts()) == 200 })
	var x, y int
	for _, word := range b.receipts() {
		if word[0] == 'x' {
			require.Equal(t, fmt.Sprint("x=", x), word)
			x++
		} else {
			require.Equal(t, fmt.Sprint("y=", y), word)
			y++
		}
	}
	require.Equal(t, 100, x)
	require.Empty(t, a.receipts(), "never to the process that sends")
	n, err := c.Send(t.Context(), nil, "x")
	require.NoError(t, err)
	require.Equal(t, 2, n)
	eventually(t, func() bool { return len(a.receipts()) == 1 })
	require.NoError(t, b.Listen(t.Context(), "x"))
	require.NoError(t, b.Unlisten(t.Context(), "x"))
	n, err = c.Send(t.Context(), nil, "x")
	require.NoError(t, err)
	require.Equal(t, 2, n, "listens are counted")
	require.NoError(t, b.Unlisten(t.Context(), "x"))
	n, err = c.Send(t.Context(), nil, "x")
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

// While a Listen is under way, Send does not count its own process.
func TestSendDuringOwnListen(t *testing.T) {
	s := start(t)
	a := join(t, s.options())
	for i := range 200 {
		subject := fmt.Sprint("x", i)
		listening := make(chan error)
		go func() { listening <- a.Listen(t.Context(), subject) }()
		for done := false; !done; {
			n, err := a.Send(t.Context(), nil, subject)
			require.NoError(t, err)
			require.LessOrEqual(t, n, 0)
			select {
			case err = <-listening:
				require.NoError(t, err)
				done = true
			default:
			}
		}
	}
}

// Who listens to the name of a stream gets its publications.
func TestListenToStream(t *testing.T) {
	s := start(t)
	a, b := join(t, s.options()), join(t, s.options())
	require.NoError(t, b.Listen(t.Context(), "room/a"))
	a.publish(note("room/a", 1))
	b.publish(note("room/a", 2))
	eventually(t, func() bool { return len(b.delivered("room/a")) == 2 })
	_, err := a.Send(t.Context(), []byte("hi"), "room/a")
	require.NoError(t, err)
	eventually(t, func() bool { return len(b.receipts()) == 1 })
	b.subscribe("room/a")
	a.publish(note("room/a", 3))
	eventually(t, func() bool { return len(b.delivered("room/a")) == 3 })
	require.Equal(t, []string{"1", "2", "3"}, b.delivered("room/a"), "each once")
}

// Streams and subjects to which nothing was published leave nothing in the server.
func TestNamesLeaveNothing(t *testing.T) {
	s := start(t)
	a := join(t, s.options())
	for i := range 100 {
		stream := fmt.Sprint("room/", i)
		a.subscribe(stream)
		_, err := a.Cursor(t.Context(), stream, "r")
		require.NoError(t, err)
		require.NoError(t, a.Unsubscribe(t.Context(), stream))
	}
	keys, err := s.do("KEYS", "*").AsStrSlice()
	require.NoError(t, err)
	for _, key := range keys {
		require.Regexp(t, `:g$`, key)
	}
	channels, err := s.do("PUBSUB", "SHARDCHANNELS").AsStrSlice()
	require.NoError(t, err)
	require.Len(t, channels, 1)
}

// What was published while the connection was lost is delivered soon, though nothing follows it.
func TestLostTail(t *testing.T) {
	s := start(t)
	p := newProxy(t, s.addr())
	o := s.options()
	o.Addrs = []string{p.addr()}
	a, b := join(t, s.options()), join(t, o)
	b.subscribe("room/a")
	b.ForgetDue()
	a.publish(note("room/a", 1))
	eventually(t, func() bool { return len(b.delivered("room/a")) == 1 })
	p.cut(true)
	for i := 2; i <= 5; i++ {
		a.publish(note("room/a", i))
	}
	p.cut(false)
	back := time.Now()
	eventually(t, func() bool { return len(b.delivered("room/a")) == 5 })
	require.Less(t, time.Since(back), 5*time.Second)
	require.Equal(t, []string{"1", "2", "3", "4", "5"}, b.delivered("room/a"))
	require.Empty(t, b.losses())
}

// What is lost on its way is found soon after Subscribe, though nothing follows it.
func TestLostAfterSubscribe(t *testing.T) {
	s := start(t)
	a, b := join(t, s.options()), join(t, s.options())
	b.subscribe("room/a")
	require.NoError(t, a.PublishSilently(t.Context(), note("room/a", 1)))
	eventually(t, func() bool { return len(b.delivered("room/a")) == 1 })
}

// What is lost on its way is read when something follows it.
func TestGap(t *testing.T) {
	s := start(t)
	a, b := join(t, s.options()), join(t, s.options())
	b.subscribe("room/a")
	b.ForgetDue()
	require.NoError(t, a.PublishSilently(t.Context(), note("room/a", 1)))
	a.publish(note("room/a", 2))
	eventually(t, func() bool { return len(b.delivered("room/a")) == 2 })
	require.Equal(t, []string{"1", "2"}, b.delivered("room/a"))
	require.Empty(t, b.losses())
}
