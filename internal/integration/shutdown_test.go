package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/memory"
)

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
		"OnMessage": {OnMessage: func(context.Context, *realtime.Conn, realtime.Inbound) (any, error) {
			closeIt()
			return nil, nil
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
	o := realtime.Options{OnMessage: func(ctx context.Context, _ *realtime.Conn, _ realtime.Inbound) (any, error) {
		returned.write(fmt.Sprint(b.Shutdown(ctx)))
		return nil, nil
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

func TestShutdownFlushesQueues(t *testing.T) {
	bubble(t, realtime.Options{}, func(t *testing.T, b *bed) {
		alice := b.stalled("alice")
		for range 100 {
			b.news(realtime.ToAll(), "x")
		}
		time.AfterFunc(time.Second/2, alice.unstall)
		require.NoError(t, b.Shutdown(t.Context()))
		require.Len(t, alice.got(), 101, "queued messages are read first")
		alice.requireEnd(realtime.CloseRestart)
		require.NoError(t, b.Shutdown(t.Context()), "again")
		_, err := b.Send(t.Context(), realtime.ToAll(), realtime.Message{})
		require.ErrorIs(t, err, realtime.ErrClosed)
		transport, _ := realtime.Pipe()
		_, err = b.Register(t.Context(), transport, realtime.Identity{})
		require.ErrorIs(t, err, realtime.ErrClosed)
	})
}

func TestDrainWindow(t *testing.T) {
	bubble(t, realtime.Options{Timeouts: realtime.Timeouts{Drain: 100 * time.Millisecond}}, func(t *testing.T, b *bed) {
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

func TestShutdownWithAStuckHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		o := realtime.Options{OnMessage: func(context.Context, *realtime.Conn, realtime.Inbound) (any, error) {
			<-stuck
			return nil, nil
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
		o := realtime.Options{OnMessage: func(context.Context, *realtime.Conn, realtime.Inbound) (any, error) {
			<-stuck
			return nil, nil
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

func TestShutdownWithAStuckSocket(t *testing.T) {
	bubble(t, realtime.Options{Timeouts: realtime.Timeouts{Write: time.Hour}}, func(t *testing.T, b *bed) {
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

// Two handlers that call Shutdown concurrently do not wait for each other.
func TestShutdownFromTwoHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b *bed
		var returned diary
		both := make(chan struct{})
		b = newBed(t, realtime.Options{
			OnMessage: func(ctx context.Context, _ *realtime.Conn, _ realtime.Inbound) (any, error) {
				<-both
				returned.write(fmt.Sprint(b.Shutdown(ctx)))
				return nil, nil
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

// A handler of one Manager shuts down another Manager, and waits for the handlers of that.
func TestShutdownOfAnotherManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var order diary
		other := newBed(t, realtime.Options{
			OnMessage: func(context.Context, *realtime.Conn, realtime.Inbound) (any, error) {
				<-release
				order.write("handler of the other")
				return nil, nil
			},
		})
		b := newBed(t, realtime.Options{
			OnMessage: func(ctx context.Context, _ *realtime.Conn, _ realtime.Inbound) (any, error) {
				_ = other.Shutdown(ctx)
				order.write("shut down")
				return nil, nil
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

func TestCloseDuringShutdown(t *testing.T) {
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

// After Close, every method returns. Those that need the Manager return an error.
func TestEachMethodAfterClose(t *testing.T) {
	bubble(t, keeping(10), func(t *testing.T, b *bed) {
		ctx := context.Background()
		alice := b.openV1(realtime.Identity{UserID: "alice"})
		b.join("lobby", alice)
		b.news(realtime.ToRoom("lobby"), "hi")
		require.NoError(t, b.Close())
		c, room, user := alice.conn, b.Room("lobby"), b.User("alice")
		transport, _ := realtime.Pipe()
		for call, err := range map[string]error{
			"Send":       second(b.Send(ctx, realtime.ToRoom("lobby"), realtime.Message{})),
			"Send all":   second(b.Send(ctx, realtime.ToAll(), realtime.Message{})),
			"Conn.Send":  second(c.Send(ctx, "t", nil)),
			"Room.Send":  second(room.Send(ctx, "t", nil)),
			"User.Send":  second(user.Send(ctx, "t", nil)),
			"Conn.Join":  second(c.Join(ctx, "lobby")),
			"JoinFrom":   second(c.JoinFrom(ctx, "lobby", realtime.From{Last: 1})),
			"Register":   second(b.Register(ctx, transport, realtime.Identity{})),
			"Conn.Close": c.Close(realtime.CloseNormal, ""),
			"Conn.Ping":  second(c.Ping(ctx)),
			"Renew":      c.Renew(realtime.Identity{UserID: "alice"}),
			"Call":       second(realtime.Call[bool](ctx, c, "sure", nil)),
			"History":    second(room.History(ctx, realtime.HistoryQuery{})),
		} {
			require.ErrorIs(t, err, realtime.ErrClosed, call)
		}
		require.ErrorIs(t, second(b.Join(ctx, c.ID(), "lobby")), realtime.ErrNotFound)
		require.ErrorIs(t, second(b.Leave(ctx, c.ID(), "lobby")), realtime.ErrNotFound)
		for call, err := range map[string]error{
			"Conn.Leave": second(c.Leave(ctx, "lobby")),
			"User.Join":  second(user.Join(ctx, "lobby")),
			"User.Leave": second(user.Leave(ctx, "lobby")),
			"Members":    second(room.Users(ctx)),
			"Room.Count": second(room.Count(ctx)),
			"Remove":     second(room.Remove(ctx, "alice")),
			"Room.Deny":  second(room.Deny(ctx, "alice", 1)),
			"User.Count": second(user.Count(ctx)),
			"Disconnect": second(user.Disconnect(ctx, realtime.CloseNormal, "")),
			"User.Deny":  second(user.Deny(ctx, 1)),
			"Shutdown":   b.Shutdown(ctx),
			"Close":      b.Close(),
		} {
			require.NoError(t, err, call)
		}
		require.Nil(t, b.Conn(c.ID()))
		require.Equal(t, []string{"lobby"}, c.Rooms())
		require.False(t, c.In("lobby"))
		require.Same(t, b.Manager, c.Manager())
		require.Zero(t, b.Stats().Conns)
		c.Info()
		c.Identity()
		for range b.LocalConns() {
			t.Fatal("a connection")
		}
		for range b.LocalRooms() {
			t.Fatal("a room")
		}
		code, _, _ := refusedHandshake(t, b.Manager, func(*http.Request) {})
		require.Equal(t, http.StatusServiceUnavailable, code)
	})
}

func TestCloseOfAHangingBroker(t *testing.T) {
	for name, end := range map[string]func(b *bed) error{
		"Close":    func(b *bed) error { return b.Close() },
		"Shutdown": func(b *bed) error { return b.Shutdown(b.t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			o := keeping(10)
			o.Broker = hangingBroker{memory.New(nil)}
			bubble(t, o, func(t *testing.T, b *bed) {
				synctest.Wait()
				start := time.Now()
				require.NoError(t, end(b))
				require.Equal(t, 10*time.Second, time.Since(start))
			})
		})
	}
}

func TestCloseWhileAnInboxIsOpened(t *testing.T) {
	o := inboxes(100)
	o.Broker = stuckBroker{memory.New(nil)}
	bubble(t, o, func(t *testing.T, b *bed) {
		var bob *client
		done := make(chan struct{})
		go func() {
			defer close(done)
			bob = b.dial("bob")
		}()
		synctest.Wait()
		start := time.Now()
		require.NoError(t, b.Close())
		require.LessOrEqual(t, time.Since(start), time.Second)
		<-done
		require.ErrorIs(t, bob.err, realtime.ErrClosed)
		bob.requireEnd(realtime.CloseAway)
		require.Zero(t, b.Stats().Failed)
	})
}

// Clients that do not answer the close frame do not delay Shutdown, and nothing is left of them.
func TestSocketShutdownWithSilentClients(t *testing.T) {
	s := newTestServer(t, realtime.Options{}, false)
	for i := range 20 {
		s.rawDial(t, fmt.Sprintf("silent%d", i), "") // never answers the close frame
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, s.rt.Shutdown(ctx))
	require.Zero(t, s.rt.Stats().Conns)
}

func TestEndpointWhileShuttingDown(t *testing.T) {
	rt := newManager(t, realtime.Options{})
	require.NoError(t, rt.Shutdown(t.Context()))
	code, message, header := refusedHandshake(t, rt, func(*http.Request) {})
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "shutting down", message)
	require.Empty(t, header.Get("Retry-After"), "another server may be ready at once")
	require.EqualValues(t, 1, rt.Stats().RefusedShutdown)
}

// stuckBroker waits in Cursor until its context ends.
type stuckBroker struct{ *memory.Broker }

func (s stuckBroker) Cursor(ctx context.Context, _, _ string) (broker.Position, error) {
	<-ctx.Done()
	return broker.Position{}, context.Cause(ctx)
}

// hangingBroker waits in Close until its context ends.
type hangingBroker struct{ *memory.Broker }

func (b hangingBroker) Close(ctx context.Context) error {
	<-ctx.Done()
	return context.Cause(ctx)
}
