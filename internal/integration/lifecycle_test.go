package integration_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
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
		bob.hush()
		mallory, eve := b.dial("mallory"), b.dial("eve")
		require.ErrorContains(t, mallory.err, "secret reason")
		mallory.requireEnd(realtime.CloseRefused)
		require.Equal(t, "refused", mallory.ended().Reason)
		require.Empty(t, mallory.got(), "not even a welcome")
		eve.requireEnd(4001)
		require.Equal(t, "pay first", eve.ended().Reason)
		time.Sleep(time.Minute)
		require.Empty(t, bob.got(), "nobody was ever told")
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

// A handler runs for 40 s. Its client answers pings meanwhile and survives; what it
// sends is handled afterwards, in order.
func TestSlowHandlerKeepsItsConnection(t *testing.T) {
	var handled diary
	o := realtime.Options{OnMessage: func(_ context.Context, _ *realtime.Conn, in realtime.Inbound) error {
		if in.Text == "slow" {
			time.Sleep(40 * time.Second)
		}
		handled.write(in.Text)
		return nil
	}}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.open("alice")
		for _, text := range []string{"slow", "1", "2", "3"} {
			alice.say(text, "all")
		}
		time.Sleep(39 * time.Second)
		require.Nil(t, alice.ended())
		require.Empty(t, handled.read())
		seen := alice.conn.Info().LastSeen
		require.Less(t, time.Since(seen), 30*time.Second, "its pongs are heard")
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"slow", "1", "2", "3"}, handled.read())
		alice.say("4", "all")
		require.Equal(t, []string{"4"}, handled.read())
	})
}

func TestHandlerLearnsThatTheClientLeft(t *testing.T) {
	var order diary
	o := realtime.Options{
		OnMessage: func(ctx context.Context, c *realtime.Conn, _ realtime.Inbound) error {
			<-ctx.Done()
			time.Sleep(time.Second)
			why, _ := errors.AsType[*realtime.CloseError](context.Cause(ctx))
			order.write("handler " + why.Cause.String())
			return nil
		},
		OnDisconnect: func(context.Context, *realtime.Conn, *realtime.CloseError) {
			order.write("OnDisconnect")
		},
	}
	o.Announce = realtime.AnnounceUsers
	bubble(t, o, func(t *testing.T, b *bed) {
		bob, alice := b.open("bob"), b.open("alice")
		bob.hush()
		alice.say("wait for me to go", "all")
		alice.say("never handled", "all")
		time.Sleep(20 * time.Second)
		require.NoError(t, alice.PipeClient.Close(1000, ""))
		require.Equal(t, []string{"alice left"}, bob.got(), "told at once")
		require.Empty(t, order.read())
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"handler client", "OnDisconnect"}, order.read())
	})
}

func TestHandlerCallsItsOwnClient(t *testing.T) {
	var pings diary
	o := realtime.Options{OnMessage: func(ctx context.Context, c *realtime.Conn, _ realtime.Inbound) error {
		took, err := c.Ping(ctx)
		pings.write(fmt.Sprint(took, err))
		return err
	}}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.stalled("alice")
		alice.say("ping me", "all")
		time.Sleep(3 * time.Second)
		alice.unstall()
		require.Equal(t, []string{"3s <nil>"}, pings.read(), "it does not wait for itself")
		alice.say("again", "all")
		require.Equal(t, []string{"0s <nil>"}, pings.read())
	})
}

func TestPingEnds(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		mute := b.stalled("mute")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := mute.conn.Ping(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		time.AfterFunc(time.Second, func() { mute.Drop() })
		_, err = mute.conn.Ping(t.Context())
		require.ErrorIs(t, err, realtime.ErrClosed)
	})
}

// While a handler blocks for good, only so much is read ahead: the client feels it.
func TestBacklogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var handled atomic.Int32
		o := realtime.Options{InboundRate: -1, InboundBytes: -1}
		o.OnMessage = func(context.Context, *realtime.Conn, realtime.Inbound) error {
			<-release
			handled.Add(1)
			return nil
		}
		b := newBed(t, o)
		alice := b.open("alice")
		var sent atomic.Int32
		go func() {
			for range 2000 {
				alice.say(string(make([]byte, 100)), "all")
				sent.Add(1)
			}
		}()
		time.Sleep(time.Minute)
		n := sent.Load()
		require.Less(t, n, int32(700), "the writer waits")
		require.Nil(t, alice.ended(), "a healthy peer is not killed for it")
		close(release)
		synctest.Wait()
		require.EqualValues(t, 2000, sent.Load())
		require.EqualValues(t, 2000, handled.Load())
	})
}

// The last tab closes while the next one opens: what others see alternates.
func TestLastOutWhileNextComesIn(t *testing.T) {
	o := announced()
	bubble(t, o, func(t *testing.T, b *bed) {
		watcher := b.open("watcher")
		tab := b.open("alice")
		for range 200 {
			done := make(chan struct{})
			next := make(chan *client)
			go func() {
				_ = tab.conn.Close(1000, "")
				close(done)
			}()
			go func() { next <- b.dial("alice") }()
			<-done
			tab = <-next
			require.NoError(t, tab.err)
			synctest.Wait()
		}
		online := false
		for _, line := range watcher.got() {
			switch line {
			case "alice joined":
				require.False(t, online, "joined twice")
				online = true
			case "alice left":
				require.True(t, online, "left twice")
				online = false
			}
		}
		require.True(t, online)
		require.Equal(t, 2, b.Stats().Users)
	})
}

func TestPanicEndsOneConnection(t *testing.T) {
	o := realtime.Options{OnMessage: func(_ context.Context, _ *realtime.Conn, in realtime.Inbound) error {
		panic("boom " + in.Text)
	}}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice, bob := b.open("alice"), b.open("bob")
		alice.say("x", "all")
		alice.requireEnd(realtime.CloseInternal)
		require.Equal(t, "internal error", alice.ended().Reason)
		require.Nil(t, bob.ended())
		require.EqualValues(t, 1, b.Stats().Panics)
		require.EqualValues(t, 1, b.Stats().Ended.Panic)
	})
	for name, o := range map[string]realtime.Options{
		"OnConnect": {OnConnect: func(context.Context, *realtime.Conn) error { panic("boom") }},
		"Authorize": {Authorize: func(context.Context, *realtime.Conn, realtime.Action) error { panic("boom") }},
		"OnDisconnect": {OnDisconnect: func(context.Context, *realtime.Conn, *realtime.CloseError) {
			panic("boom")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, o, func(t *testing.T, b *bed) {
				alice := b.dial("alice")
				_ = alice.Write([]byte(`{"content":"x","target":"all"}`))
				synctest.Wait()
				alice.Drop()
				synctest.Wait()
				require.EqualValues(t, 1, b.Stats().Panics)
			})
		})
	}
}

func TestCloseFromInsideEachHandler(t *testing.T) {
	var b *bed
	var closes diary
	closeIt := func() {
		if b.Close() == nil {
			closes.write("closed")
		}
	}
	for name, o := range map[string]realtime.Options{
		"OnConnect": {OnConnect: func(context.Context, *realtime.Conn) error { closeIt(); return nil }},
		"OnMessage": {OnMessage: func(context.Context, *realtime.Conn, realtime.Inbound) error {
			closeIt()
			return nil
		}},
		"OnDisconnect": {OnDisconnect: func(context.Context, *realtime.Conn, *realtime.CloseError) { closeIt() }},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, o, func(t *testing.T, bubbled *bed) {
				b = bubbled
				alice := b.dial("alice")
				_ = alice.Write([]byte(`{"content":"x","target":"all"}`))
				synctest.Wait()
				_ = alice.PipeClient.Close(1000, "")
				time.Sleep(3 * time.Second)
				require.Equal(t, []string{"closed"}, closes.read())
			})
		})
	}
}

func TestShutdownFromInsideAHandler(t *testing.T) {
	var b *bed
	var returned diary
	o := realtime.Options{OnMessage: func(ctx context.Context, _ *realtime.Conn, _ realtime.Inbound) error {
		returned.write(fmt.Sprint(b.Shutdown(ctx)))
		return nil
	}}
	bubble(t, o, func(t *testing.T, bubbled *bed) {
		b = bubbled
		alice, bob := b.open("alice"), b.open("bob")
		alice.say("stop", "all")
		time.Sleep(5 * time.Second)
		require.Equal(t, []string{"<nil>"}, returned.read())
		alice.requireEnd(realtime.CloseRestart)
		bob.requireEnd(realtime.CloseRestart)
	})
}

func TestShutdownFlushesAndSaysWhy(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice := b.stalled("alice")
		for range 100 {
			b.news(realtime.ToAll(), "x")
		}
		time.AfterFunc(time.Second/2, alice.unstall)
		require.NoError(t, b.Shutdown(t.Context()))
		require.Len(t, alice.got(), 101, "what was queued is read first")
		alice.requireEnd(realtime.CloseRestart)
		require.NoError(t, b.Shutdown(t.Context()), "again")
		_, err := b.Send(t.Context(), realtime.ToAll(), realtime.Message{})
		require.ErrorIs(t, err, realtime.ErrClosed)
		transport, _ := realtime.Pipe()
		_, err = b.Register(t.Context(), transport, realtime.Identity{})
		require.ErrorIs(t, err, realtime.ErrClosed)
	})
}

func TestShutdownSpreadsItsGoodbyes(t *testing.T) {
	bubble(t, realtime.Options{DrainWindow: 100 * time.Millisecond}, func(t *testing.T, b *bed) {
		var clients []*client
		for range 1000 {
			clients = append(clients, b.open(""))
		}
		start := time.Now()
		var early atomic.Int32 // in the first half of the window
		for _, c := range clients {
			context.AfterFunc(c.conn.Context(), func() {
				if time.Since(start) < 50*time.Millisecond {
					early.Add(1)
				}
			})
		}
		require.NoError(t, b.Shutdown(t.Context()))
		require.InDelta(t, 0.1, time.Since(start).Seconds(), 0.01)
		require.InDelta(t, 500, early.Load(), 10)
	})
}

func TestShutdownCutsWhoeverIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		o := realtime.Options{OnMessage: func(context.Context, *realtime.Conn, realtime.Inbound) error {
			<-stuck
			return nil
		}}
		b := newBed(t, o)
		alice := b.open("alice")
		alice.say("x", "all")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		second := make(chan error)
		go func() { second <- b.Shutdown(ctx) }()
		start := time.Now()
		require.ErrorIs(t, b.Shutdown(ctx), context.DeadlineExceeded, "the handler is stuck")
		require.Equal(t, 3*time.Second, time.Since(start))
		require.ErrorIs(t, <-second, context.DeadlineExceeded)
		require.Zero(t, b.Stats().Conns)
		close(stuck)
		require.NoError(t, b.Shutdown(t.Context()))
	})
}

func TestCloseDoesNotWaitForHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		o := realtime.Options{OnMessage: func(context.Context, *realtime.Conn, realtime.Inbound) error {
			<-stuck
			return nil
		}}
		b := newBed(t, o)
		alice := b.open("alice")
		alice.say("x", "all")
		synctest.Wait()
		start := time.Now()
		require.NoError(t, b.Close())
		require.LessOrEqual(t, time.Since(start), time.Second)
		alice.requireEnd(realtime.CloseAway)
		close(stuck)
	})
}

func TestShutdownFromInsideOnDisconnect(t *testing.T) {
	var b *bed
	var returned diary
	o := realtime.Options{OnDisconnect: func(ctx context.Context, c *realtime.Conn, _ *realtime.CloseError) {
		if c.UserID() == "alice" {
			returned.write(fmt.Sprint(b.Shutdown(ctx)))
		}
	}}
	bubble(t, o, func(t *testing.T, bubbled *bed) {
		b = bubbled
		alice, bob := b.open("alice"), b.open("bob")
		alice.Drop()
		time.Sleep(5 * time.Second)
		require.Equal(t, []string{"<nil>"}, returned.read())
		bob.requireEnd(realtime.CloseRestart)
	})
}

func TestShutdownCutsStuckSockets(t *testing.T) {
	bubble(t, realtime.Options{WriteTimeout: time.Hour}, func(t *testing.T, b *bed) {
		b.stalled("stuck")
		for range 3 {
			b.news(realtime.ToAll(), strings.Repeat("x", 64<<10))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		require.ErrorIs(t, b.Shutdown(ctx), context.DeadlineExceeded)
		require.Equal(t, 3*time.Second, time.Since(start))
	})
}

func TestOnConnectMaySendALot(t *testing.T) {
	var b *bed
	var pings diary
	o := realtime.Options{QueueMessages: 4, Slow: realtime.SlowDropOldest}
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

// A handler that ends its goroutine, as t.FailNow does, ends its connection and nothing
// else.
func TestHandlerThatEndsItsGoroutine(t *testing.T) {
	var ends diary
	o := realtime.Options{
		OnMessage: func(context.Context, *realtime.Conn, realtime.Inbound) error {
			runtime.Goexit()
			return nil
		},
		OnDisconnect: func(_ context.Context, c *realtime.Conn, why *realtime.CloseError) {
			ends.write(c.UserID() + " " + why.Cause.String())
		},
	}
	bubble(t, o, func(t *testing.T, b *bed) {
		alice := b.open("alice")
		alice.say("x", "all")
		alice.requireEnd(realtime.CloseInternal)
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"alice panic"}, ends.read())
		require.NoError(t, b.Shutdown(t.Context()))
	})
}

// Two handlers that shut down at once do not wait for each other.
func TestShutdownFromTwoHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b *bed
		var returned diary
		both := make(chan struct{})
		b = newBed(t, realtime.Options{
			OnMessage: func(ctx context.Context, _ *realtime.Conn, _ realtime.Inbound) error {
				<-both
				returned.write(fmt.Sprint(b.Shutdown(ctx)))
				return nil
			},
		})
		alice, bob := b.open("alice"), b.open("bob")
		alice.say("stop", "all")
		bob.say("stop", "all")
		synctest.Wait()
		close(both)
		time.Sleep(5 * time.Second)
		require.Equal(t, []string{"<nil>", "<nil>"}, returned.read())
	})
}

// The handler of one Manager shuts down another, whose handlers it does wait for.
func TestShutdownOfAnotherManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var order diary
		other := newBed(t, realtime.Options{
			OnMessage: func(context.Context, *realtime.Conn, realtime.Inbound) error {
				<-release
				order.write("handler of the other")
				return nil
			},
		})
		b := newBed(t, realtime.Options{
			OnMessage: func(ctx context.Context, _ *realtime.Conn, _ realtime.Inbound) error {
				_ = other.Shutdown(ctx)
				order.write("shut down")
				return nil
			},
		})
		other.open("bob").say("x", "all")
		synctest.Wait()
		b.open("alice").say("x", "all")
		time.Sleep(time.Minute)
		require.Empty(t, order.read())
		close(release)
		require.Equal(t, []string{"handler of the other", "shut down"}, order.read())
	})
}

func TestCloseHurriesAShutdownAlong(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		b.stalled("stuck")
		for range 3 {
			b.news(realtime.ToAll(), strings.Repeat("x", 64<<10))
		}
		start := time.Now()
		go func() { _ = b.Shutdown(context.Background()) }()
		synctest.Wait()
		require.NoError(t, b.Close())
		require.LessOrEqual(t, time.Since(start), time.Second)
	})
}

func TestBacklogIsBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		o := realtime.Options{InboundRate: -1, InboundBytes: -1}
		o.OnMessage = func(context.Context, *realtime.Conn, realtime.Inbound) error {
			<-release
			return nil
		}
		b := newBed(t, o)
		alice := b.open("alice")
		go func() {
			long := []byte(`{"content":"","target":"` + strings.Repeat("t", 60<<10) + `"}`)
			for alice.Write(long) == nil {
			}
		}()
		time.Sleep(time.Minute)
		require.Less(t, alice.conn.Info().Received, uint64(10), "targets count too")
		close(release)
	})
}

// While OnConnect runs the connection is read: its end is seen, and what comes in is handled
// afterwards, in order.
func TestWhatComesInDuringOnConnect(t *testing.T) {
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

// OnConnect that ends its goroutine, as t.FailNow does, leaves the place free.
func TestOnConnectThatEndsItsGoroutine(t *testing.T) {
	var fail atomic.Bool
	fail.Store(true)
	o := realtime.Options{
		MaxConns: 1, MaxConnsPerUser: 1,
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
