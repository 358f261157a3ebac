package redis_test

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/broker/redis"
)

// restart kills the server and starts it again, and waits until the broker works again.
func restart(s *server, n *node, between func()) {
	s.t.Helper()
	s.kill()
	if between != nil {
		between()
	}
	s.begin()
	eventually(s.t, func() bool {
		_, err := n.Read(s.t.Context(), "room/none", broker.Query{})
		return err == nil
	})
}

// A server that has lost everything begins new epochs. Subscriptions and listens are in force
// again.
func TestServerLosesAll(t *testing.T) {
	s := start(t)
	a, b := join(t, s.options()), join(t, s.options())
	a.subscribe("room/a")
	quiet := a.subscribe("room/quiet")
	require.NoError(t, a.Listen(t.Context(), "x"))
	was := a.publish(note("room/a", 1)).Position
	restart(s, a, s.empty)
	eventually(t, func() bool { return len(a.losses()) == 2 }, "the epochs are others")
	require.NotEqual(t, quiet.Epoch, a.page("room/quiet", broker.Query{}).Top.Epoch)
	page := a.page("room/a", broker.Query{After: was.Offset})
	require.NotEqual(t, was.Epoch, page.Top.Epoch)
	require.Zero(t, page.Top.Offset)
	require.Equal(t, broker.ReasonEpoch, page.GapAfter(was))
	eventually(t, func() bool {
		_, err := b.Publish(t.Context(), note("room/a", 2))
		return err == nil
	})
	require.Greater(t, b.page("room/a", broker.Query{}).Top.Offset, was.Offset, "no offset is used again")
	eventually(t, func() bool { return len(a.delivered("room/a")) == 2 })
	eventually(t, func() bool {
		_, err := b.Send(t.Context(), []byte("hi"), "x")
		return err == nil && len(a.receipts()) > 0
	})
}

// A server that was killed may have lost the newest publications although it has a file: the epochs
// are new, and what is kept is kept.
func TestServerWithFile(t *testing.T) {
	s := start(t, "--appendonly", "yes", "--appendfsync", "always")
	a := join(t, s.options())
	a.subscribe("user/a")
	p := note("user/a", 1)
	p.Message.ID = "1"
	first := a.publish(p).Position
	second := a.publish(note("user/a", 2)).Position
	require.NoError(t, a.Ack(t.Context(), "user/a", "r", first))
	restart(s, a, nil)
	page := a.page("user/a", broker.Query{})
	require.NotEqual(t, first.Epoch, page.Top.Epoch)
	require.Equal(t, second.Offset, page.Top.Offset)
	require.Equal(t, []string{"2"}, contents(page), "the other is acknowledged")
	require.Equal(t, broker.ReasonEpoch, page.GapAfter(second))
	require.ErrorIs(t, a.Ack(t.Context(), "user/a", "r", second), broker.ErrInvalidPosition)
	cursor, err := a.Cursor(t.Context(), "user/a", "r")
	require.NoError(t, err)
	require.Equal(t, broker.Position{Epoch: page.Top.Epoch, Offset: first.Offset}, cursor)
	out := a.publish(p)
	require.True(t, out.Duplicate)
	third := a.publish(note("user/a", 3)).Position
	require.Equal(t, second.Offset+1, third.Offset)
	eventually(t, func() bool { return len(a.losses()) == 1 })
	a.publish(note("user/a", 4))
	words := a.delivered("user/a")
	require.Equal(t, "4", words[len(words)-1])
}

// An engine that loses nothing keeps its epochs.
func TestDurableServer(t *testing.T) {
	s := start(t, "--appendonly", "yes", "--appendfsync", "always")
	o := s.options()
	o.Durable = true
	a, b := join(t, o), join(t, o)
	a.subscribe("room/a")
	quiet := a.subscribe("room/quiet")
	was := b.publish(note("room/a", 1)).Position
	restart(s, a, nil)
	require.Equal(t, quiet, a.page("room/quiet", broker.Query{}).Top)
	require.Equal(t, was, a.page("room/a", broker.Query{}).Top)
	eventually(t, func() bool {
		_, err := b.Publish(t.Context(), note("room/a", 2))
		return err == nil
	})
	eventually(t, func() bool { return len(a.delivered("room/a")) == 2 })
	require.Empty(t, a.losses())
}

// brief returns options with a short timeout that lead through a proxy.
func brief(p *proxy) *redis.Options {
	o := &redis.Options{Addrs: []string{p.addr()}, Timeout: 300 * time.Millisecond}
	o.Logger = slog.New(slog.DiscardHandler)
	return o
}

// calls calls all methods that need the engine.
func calls(ctx context.Context, n *node) map[string]error {
	errs := map[string]error{}
	_, errs["Publish"] = n.Publish(ctx, note("room/a", 1))
	_, errs["Subscribe"] = n.Subscribe(ctx, "room/b")
	_, errs["Read"] = n.Read(ctx, "room/a", broker.Query{})
	_, errs["Cursor"] = n.Cursor(ctx, "room/a", "r")
	errs["Ack"] = n.Ack(ctx, "room/a", "r", n.at)
	errs["Listen"] = n.Listen(ctx, "y")
	_, errs["Send"] = n.Send(ctx, nil, "y")
	return errs
}

// While the server hangs or refuses connections, every call returns ErrUnavailable within the
// timeout, and the Sink knows it. Afterwards everything works again.
func TestUnavailable(t *testing.T) {
	for name, fail := range map[string]func(p *proxy){
		"hangs": (*proxy).stop, "refuses": func(p *proxy) { p.cut(true) },
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			p := newProxy(t, s.addr())
			a, b := join(t, brief(p)), join(t, s.options())
			a.subscribe("room/a")
			a.at = a.publish(note("room/a", 0)).Position
			require.NoError(t, a.Listen(t.Context(), "x"))
			fail(p)
			for name, err := range calls(t.Context(), a) {
				require.ErrorIs(t, err, broker.ErrUnavailable, name)
			}
			eventually(t, func() bool { return len(a.isCut()) == 1 })
			began := time.Now()
			for name, err := range calls(t.Context(), a) {
				require.ErrorIs(t, err, broker.ErrUnavailable, name)
			}
			require.Less(t, time.Since(began), time.Second, "it is known")
			_, err := a.Publish(t.Context(), note("", 1))
			require.NoError(t, err, "what is not kept needs no server")
			require.Len(t, a.delivered(""), 1)
			b.publish(note("room/a", 7))
			p.resume()
			p.cut(false)
			eventually(t, func() bool { return len(a.isCut()) == 2 })
			require.Equal(t, []bool{true, false}, a.isCut())
			eventually(t, func() bool {
				return slices.Contains(a.delivered("room/a"), "7") || len(a.losses()) > 0
			})
			require.Empty(t, a.losses())
			for _, subject := range []string{"x", "y"} {
				n, err := b.Send(t.Context(), nil, subject)
				require.NoError(t, err)
				require.Equal(t, 1, n, subject)
			}
		})
	}
}

// A connection that the server has not noticed to be lost does not count as a receiver once there is a
// new one.
func TestLostConnectionIsNoReceiver(t *testing.T) {
	s := start(t)
	p := newProxy(t, s.addr())
	a, b := join(t, brief(p)), join(t, s.options())
	require.NoError(t, a.Listen(t.Context(), "x"))
	p.strand()
	eventually(t, func() bool {
		n, err := b.Send(t.Context(), nil, "x")
		require.NoError(t, err)
		require.LessOrEqual(t, n, 1)
		return len(a.receipts()) > 0
	})
}

// A server that hangs breaks no connection. Nevertheless the time until the Sink knows it begins with
// the last answer: the other nodes are taken for dead a second later.
func TestHangingServerIsCutInTime(t *testing.T) {
	s := start(t)
	p := newProxy(t, s.addr())
	o := brief(p)
	o.Timeout = 2 * time.Second
	a := join(t, o)
	a.subscribe("room/a")
	p.stop()
	began := time.Now()
	eventually(t, func() bool { return len(a.isCut()) == 1 })
	require.Less(t, time.Since(began), o.Timeout+time.Second)
}

// A caller's context ends a call with its own error.
func TestContextEndsCall(t *testing.T) {
	s := start(t)
	p := newProxy(t, s.addr())
	o := brief(p)
	o.Timeout = 0
	a := join(t, o)
	a.subscribe("room/a")
	p.stop()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for name, err := range calls(ctx, a) {
		require.ErrorIs(t, err, context.DeadlineExceeded, name)
	}
}

// A Listen that has failed is in force soon, although the connection was never lost.
func TestListenIsMended(t *testing.T) {
	s := start(t)
	a, b := join(t, s.options()), join(t, s.options())
	require.NoError(t, a.Listen(t.Context(), "x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, a.Listen(ctx, "y"), context.Canceled)
	eventually(t, func() bool {
		n, err := b.Send(t.Context(), nil, "y")
		return err == nil && n == 1
	})
	require.NoError(t, a.Unlisten(t.Context(), "y"))
	n, err := b.Send(t.Context(), nil, "y")
	require.NoError(t, err)
	require.Zero(t, n)
}

// Open does not need the server, and Close does not either.
func TestNoServer(t *testing.T) {
	s := start(t)
	s.kill()
	o := s.options()
	o.Timeout = 200 * time.Millisecond
	a := join(t, o)
	_, err := a.Publish(t.Context(), note("room/a", 1))
	require.ErrorIs(t, err, broker.ErrUnavailable)
	require.ErrorIs(t, a.Listen(t.Context(), "x"), broker.ErrUnavailable)
	eventually(t, func() bool { return len(a.isCut()) == 1 })
	s.begin()
	eventually(t, func() bool { return len(a.isCut()) == 2 })
	n, err := join(t, s.options()).Send(t.Context(), nil, "x")
	require.NoError(t, err)
	require.Equal(t, 1, n, "the listen is in force although it has failed")
	s.kill()
	began := time.Now()
	require.NoError(t, a.Close(t.Context()))
	require.Less(t, time.Since(began), 5*time.Second)
}

// Why there is no connection is logged, and errors say it.
func TestReasonIsTold(t *testing.T) {
	s := start(t)
	var log bytes.Buffer
	for name, o := range map[string]*redis.Options{
		"WRONGPASS":          {Addrs: []string{s.addr()}, Password: "x"},
		"connection refused": {Addrs: []string{"127.0.0.1:1"}},
	} {
		log.Reset()
		o.Timeout, o.Logger = 200*time.Millisecond, slog.New(slog.NewTextHandler(&log, nil))
		if name == "WRONGPASS" {
			s.do("CONFIG", "SET", "requirepass", "y")
		}
		a := join(t, o)
		eventually(t, func() bool { return len(a.isCut()) == 1 })
		_, err := a.Publish(t.Context(), note("room/a", 1))
		require.ErrorIs(t, err, broker.ErrUnavailable)
		require.ErrorContains(t, err, name)
		require.NoError(t, a.Close(t.Context()))
		require.Contains(t, log.String(), name)
	}
}

// Close returns with its context although the server hangs in the middle of calls.
func TestCloseWhileServerHangs(t *testing.T) {
	s := start(t)
	p := newProxy(t, s.addr())
	o := brief(p)
	o.Timeout = 0
	a := join(t, o)
	a.subscribe("room/a")
	p.stop()
	failed := make(chan error)
	go func() {
		_, err := a.Publish(context.Background(), note("room/a", 1))
		failed <- err
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	began := time.Now()
	_ = a.Close(ctx)
	require.Less(t, time.Since(began), 5*time.Second)
	require.ErrorIs(t, <-failed, broker.ErrClosed)
}

// A server without memory refuses publications, and takes them again later.
func TestServerIsFull(t *testing.T) {
	s := start(t)
	a := join(t, s.options())
	a.subscribe("room/a")
	s.do("CONFIG", "SET", "maxmemory", "1")
	_, err := a.Publish(t.Context(), note("room/a", 1))
	require.ErrorIs(t, err, broker.ErrFull)
	s.do("CONFIG", "SET", "maxmemory", "0")
	a.publish(note("room/a", 2))
	require.Equal(t, []string{"2"}, a.delivered("room/a"))
}
