package integration_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
)

func TestOnConnectJoinsAndSends(t *testing.T) {
	o := announced()
	var b *bed
	o.OnConnect = func(ctx context.Context, c *realtime.Conn) error {
		require.NotNil(b.t, b.Conn(c.ID()), "it can be found by its id")
		n, err := b.User(c.UserID()).Count(ctx)
		require.NoError(b.t, err)
		if c.UserID() == "alice" {
			require.Zero(b.t, n, "and by nothing else")
		}
		_, err = b.Join(ctx, c.ID(), "lobby")
		require.NoError(b.t, err)
		b.news(realtime.ToConn(c.ID()), "hello")
		b.news(realtime.ToRoom("lobby"), "more")
		return nil
	}
	bubble(t, o, func(t *testing.T, bubbled *bed) {
		b = bubbled
		bob := b.open("bob")
		require.Equal(t, []string{"welcome", `news "hello"`, `news "more"`, "bob in lobby"}, bob.got())
		alice := b.open("alice")
		require.Equal(t, []string{"welcome", `news "hello"`, `news "more"`, "alice in lobby"}, alice.got())
		require.Equal(t, []string{`news "more"`, "alice joined", "alice in lobby"}, bob.got())
	})
}

func TestOnConnectRefuses(t *testing.T) {
	o := announced()
	var b *bed
	var ends diary
	o.OnDisconnect = func(context.Context, *realtime.Conn, *realtime.CloseError) { ends.write("x") }
	o.OnConnect = func(ctx context.Context, c *realtime.Conn) error {
		_, err := b.Join(ctx, c.ID(), "lobby")
		require.NoError(b.t, err)
		switch c.UserID() {
		case "mallory":
			return errors.New("secret reason")
		case "eve":
			return &realtime.CloseError{Code: 4001, Reason: "pay first"}
		}
		return nil
	}
	bubble(t, o, func(t *testing.T, bubbled *bed) {
		b = bubbled
		bob := b.open("bob")
		bob.discard()
		mallory, eve := b.dial("mallory"), b.dial("eve")
		require.ErrorContains(t, mallory.err, "secret reason")
		mallory.requireEnd(realtime.CloseRefused)
		require.Equal(t, "refused", mallory.ended().Reason)
		require.Empty(t, mallory.got(), "not even a welcome")
		eve.requireEnd(4001)
		require.Equal(t, "pay first", eve.ended().Reason)
		time.Sleep(time.Minute)
		require.Empty(t, bob.got(), "no notices")
		require.Empty(t, ends.read())
		s := b.Stats()
		require.EqualValues(t, 2, s.Ended.Refused)
		require.EqualValues(t, 1, s.Accepted)
		count, _ := b.Room("lobby").Count(t.Context())
		require.Equal(t, 1, count.Conns)
	})
}

func TestOnDisconnectOnceForEachConnection(t *testing.T) {
	var ends diary
	o := realtime.Options{OnDisconnect: func(ctx context.Context, c *realtime.Conn, why *realtime.CloseError) {
		if ctx.Err() != nil {
			panic("the context of OnDisconnect has ended")
		}
		ends.write(c.UserID() + " " + why.Cause.String())
	}}
	bubble(t, o, func(t *testing.T, b *bed) {
		for _, end := range []struct {
			how func(c *client)
			why string
		}{
			{func(c *client) { _ = c.PipeClient.Close(1001, "") }, "client"},
			{func(c *client) { c.Drop() }, "lost"},
			{func(c *client) { _ = c.conn.Close(4000, "x") }, "server"},
			{func(c *client) { _ = c.Write([]byte("\xff")) }, "protocol"},
			{func(c *client) { _ = c.Write(make([]byte, 65<<10)) }, "protocol"},
		} {
			c := b.open("u")
			end.how(c)
			synctest.Wait()
			_ = c.conn.Close(1000, "again")
			time.Sleep(2 * time.Second)
			require.Equal(t, []string{"u " + end.why}, ends.read())
		}
		b.open("v")
		require.NoError(t, b.Shutdown(t.Context()))
		require.Equal(t, []string{"v shutdown"}, ends.read())
	})
}

func TestOnConnectSendsMoreThanAQueue(t *testing.T) {
	var b *bed
	var pings diary
	o := realtime.Options{Limits: realtime.Limits{QueueMessages: 4}, Slow: realtime.SlowDropOldest}
	o.OnConnect = func(ctx context.Context, c *realtime.Conn) error {
		for range 100 {
			b.news(realtime.ToConn(c.ID()), "x")
		}
		_, err := c.Ping(ctx)
		pings.write(fmt.Sprint(errors.Is(err, realtime.ErrNotOpen)))
		return nil
	}
	bubble(t, o, func(t *testing.T, bubbled *bed) {
		b = bubbled
		got := b.open("alice").got()
		require.Equal(t, "welcome", got[0], "always")
		require.Len(t, got, 101)
		require.Equal(t, []string{"true"}, pings.read())
	})
}

// While OnConnect runs, the connection is read: its end is detected, and messages are handled
// afterwards, in order.
func TestMessagesDuringOnConnect(t *testing.T) {
	var seen diary
	var leave chan struct{}
	o := realtime.Options{
		OnConnect: func(ctx context.Context, c *realtime.Conn) error {
			if c.UserID() == "mallory" {
				<-ctx.Done()
				seen.write("mallory: " + contextCause(ctx).(*realtime.CloseError).Cause.String())
				return nil
			}
			<-leave
			seen.write("opened")
			return nil
		},
		OnMessage: func(_ context.Context, c *realtime.Conn, in realtime.Inbound) error {
			seen.write(c.UserID() + ": " + in.Text)
			return nil
		},
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		leave = make(chan struct{})
		transport, far := realtime.Pipe()
		defer far.Drop()
		for i := range 10 {
			require.NoError(t, far.Write(fmt.Appendf(nil, `{"content":"%d","target":"all"}`, i)))
		}
		go func() {
			_, _ = b.Register(t.Context(), transport, realtime.Identity{UserID: "alice"})
		}()
		synctest.Wait()
		require.Empty(t, seen.read())
		close(leave)
		synctest.Wait()
		want := []string{"opened"}
		for i := range 10 {
			want = append(want, fmt.Sprint("alice: ", i))
		}
		require.NoError(t, far.Write([]byte(`{"content":"more","target":"all"}`)))
		synctest.Wait()
		require.Equal(t, append(want, "alice: more"), seen.read())

		transport, far = realtime.Pipe()
		go far.Drop()
		_, err := b.Register(t.Context(), transport, realtime.Identity{UserID: "mallory"})
		require.ErrorIs(t, err, realtime.ErrClosed)
		require.Equal(t, []string{"mallory: lost"}, seen.read())
	})
}

// If OnConnect ends its goroutine, as t.FailNow does, the place of the connection is released.
func TestGoexitInOnConnect(t *testing.T) {
	var fail atomic.Bool
	fail.Store(true)
	o := realtime.Options{
		Limits: realtime.Limits{Conns: 1, ConnsPerUser: 1},
		OnConnect: func(context.Context, *realtime.Conn) error {
			if fail.Load() {
				runtime.Goexit()
			}
			return nil
		},
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		transport, far := realtime.Pipe()
		go func() { _, _ = b.Register(t.Context(), transport, realtime.Identity{UserID: "alice"}) }()
		for {
			_, _, err := far.Read(t.Context())
			if end, ok := errors.AsType[*realtime.CloseError](err); ok {
				require.Equal(t, realtime.CloseInternal, end.Code)
				break
			}
		}
		time.Sleep(2 * time.Second)
		fail.Store(false)
		b.open("alice")
		require.NoError(t, b.Shutdown(t.Context()))
	})
}

// A transport belongs to one connection: two would share a client, and one of them would not end
// with it.
func TestRegisterTakesATransportOnce(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		transport, far := realtime.Pipe()
		defer far.Drop()
		c, err := b.Register(t.Context(), transport, realtime.Identity{UserID: "alice"})
		require.NoError(t, err)
		_, err = b.Register(t.Context(), transport, realtime.Identity{UserID: "bob"})
		require.ErrorContains(t, err, "registered before")
		require.NoError(t, c.Context().Err())
		require.Equal(t, 1, b.Stats().Conns)
	})
}
