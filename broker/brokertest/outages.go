package brokertest

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

func outageRules() []sharedRule {
	return []sharedRule{
		{"in an outage every call returns ErrUnavailable in time", outages, unavailable},
		{"a broker that is cut off says so, and when it is back", cuts, cutTold},
		{"in an outage all brokers are cut off, and then back", outages, allCut},
		{"Open does not wait for the engine", outages, openInOutage},
		{"a Subscribe that has failed is none", outages, failedSubscribe},
		{"what was published without an answer is not doubled", cuts, unanswered},
		{"10,000 subscriptions are in force again after an outage", outages, manySubscriptions},
		{"Close does not wait for the engine", outages, closeInOutage},
	}
}

func (g *group) requireAnswers(at broker.Position) {
	g.t.Helper()
	for _, n := range g.nodes {
		errs, slowest := n.callsOfBus(g.t.Context(), "room/b", at)
		require.Less(g.t, slowest, bound)
		for name, err := range errs {
			require.NoError(g.t, err, name)
		}
	}
}

func unavailable(g *group) {
	nodes := g.openAll(2, "room/a")
	at := nodes[0].publish(note("room/b", 0)).Position
	g.requireAnswers(at)
	g.Down(true)
	g.soon("the outage begins", func() bool {
		_, err := nodes[0].b.Read(g.t.Context(), "room/a", broker.Query{})
		return err != nil
	})
	for range 2 {
		for _, n := range nodes {
			errs, slowest := n.callsOfBus(g.t.Context(), "room/b", at)
			require.Less(g.t, slowest, bound)
			for name, err := range errs {
				require.ErrorIs(g.t, err, broker.ErrUnavailable, name)
			}
			ctx, cancel := context.WithCancel(g.t.Context())
			cancel()
			errs, _ = n.callsOfBus(ctx, "room/b", at)
			for name, err := range errs {
				require.Error(g.t, err, name)
			}
		}
	}
	g.Down(false)
	for _, n := range nodes {
		g.soon("it answers", func() bool {
			_, err := n.b.Read(g.t.Context(), "room/a", broker.Query{})
			return err == nil
		})
	}
	g.requireAnswers(at)
	g.goesOn("room/a")
}

func cutTold(g *group) {
	nodes := g.openAll(2, "room/a")
	a, b := nodes[0], nodes[1]
	b.listen("subject")
	for round := 1; round <= 2; round++ {
		b.cut(g, true)
		b.eventually("it is told", func() bool { return len(b.wasCut()) == 2*round-1 })
		a.publish(note("room/a", round))
		b.cut(g, false)
		g.soon("it is told again", func() bool { return len(b.wasCut()) == 2*round })
		if !g.Loses { // what is sent from now on arrives
			a.send("x", 1, "subject")
			g.soon("it arrives", func() bool { return len(b.texts("subject")) == round })
		}
		g.settle("room/a")
	}
	require.Equal(g.t, []bool{true, false, true, false}, b.wasCut())
	require.Empty(g.t, a.wasCut())
	g.requireWhole("room/a")
}

func allCut(g *group) {
	nodes := g.openAll(2, "room/a")
	g.Down(true)
	for _, n := range nodes {
		n.eventually("it is told", func() bool { return len(n.wasCut()) == 1 })
	}
	g.Down(false)
	for _, n := range nodes {
		g.soon("it is told again", func() bool { return len(n.wasCut()) == 2 })
		require.Equal(g.t, []bool{true, false}, n.wasCut())
	}
	g.goesOn("room/a")
}

func openInOutage(g *group) {
	a := g.open()
	a.subscribeNow("room/a")
	g.Down(true)
	b := g.open() // requires that it returns in time
	_, err := b.b.Subscribe(g.t.Context(), "room/a")
	require.ErrorIs(g.t, err, broker.ErrUnavailable)
	g.Down(false)
	g.soon("it has connected", func() bool {
		_, err = b.b.Subscribe(g.t.Context(), "room/a")
		return err == nil
	})
	a.insist("publish", func() error {
		_, err := a.b.Publish(g.t.Context(), identified("room/a", "alice", "1"))
		return err
	})
	g.settle("room/a")
}

func failedSubscribe(g *group) {
	nodes := g.openAll(2, "room/a")
	b := nodes[1]
	g.Down(true)
	g.soon("Subscribe fails", func() bool {
		_, err := b.b.Subscribe(g.t.Context(), "room/b")
		if err == nil {
			b.unsubscribe("room/b") // the outage had not begun
		}
		return err != nil
	})
	g.Down(false)
	b.publishAtLast(identified("room/b", "alice", "1"))
	g.goesOn("room/a")
	require.Empty(g.t, b.delivered("room/b"))
	b.subscribe("room/b")
	b.publish(note("room/b", 2))
	b.unsubscribe("room/b")
	b.publish(note("room/b", 3))
	g.goesOn("room/a")
	require.Equal(g.t, []int{2}, numbers(g.t, b.delivered("room/b")), "one Unsubscribe ends it")
}

// unanswered cuts a broker off again and again while it publishes. Each publication is repeated
// with its id until there is an answer.
func unanswered(g *group) {
	const workers, times = 4, 60
	nodes := g.openAll(2, "room/a")
	a, b := nodes[0], nodes[1]
	var published atomic.Int64
	var all sync.WaitGroup
	for worker := range workers {
		all.Go(func() {
			for i := range times {
				p := identified("room/a", "p"+strconv.Itoa(worker), strconv.Itoa(i))
				p.Message.Content = []byte(strconv.Itoa(i))
				var err error
				for began := time.Now(); time.Since(began) < 2*patience; pause() {
					if _, err = a.b.Publish(g.t.Context(), p); err == nil {
						break
					}
				}
				if err != nil {
					g.t.Errorf("publish: %v", err)
					return
				}
				published.Add(1)
			}
		})
	}
	for round := 1; round <= 4; round++ {
		b.eventually("some are published", func() bool {
			return published.Load() >= int64(round*workers*times/6)
		})
		a.cut(g, true)
		b.eventually("it is cut off", func() bool {
			_, err := a.b.Read(g.t.Context(), "room/a", broker.Query{})
			return err != nil
		})
		a.cut(g, false)
	}
	all.Wait()
	require.Len(g.t, b.all("room/a"), workers*times)
	g.settle("room/a")
	g.requireWhole("room/a")
}

// at10k calls do for each of 10,000 streams, from many goroutines.
func at10k(do func(stream string) error) (failed error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for worker := range 100 {
		all.Go(func() {
			for i := range 100 {
				if err := do(fmt.Sprint("room/", worker*100+i)); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	return failed
}

func manySubscriptions(g *group) {
	nodes := g.openAll(2, "room/first")
	a, b := nodes[0], nodes[1]
	ctx := g.t.Context()
	require.NoError(g.t, at10k(func(stream string) error {
		_, err := b.b.Subscribe(ctx, stream)
		return err
	}))
	g.Down(true)
	for _, n := range nodes {
		n.eventually("it is told", func() bool { return len(n.wasCut()) == 1 })
	}
	g.Down(false)
	publish := func(stream string) error {
		_, err := a.b.Publish(ctx, note(stream, 1))
		return err
	}
	a.eventually("it is back", func() bool { return len(a.wasCut()) == 2 })
	require.NoError(g.t, at10k(publish))
	b.eventually("they are in force again", func() bool { return len(b.wasCut()) == 2 })
	require.NoError(g.t, at10k(publish))
	count := map[string]int{}
	g.soon("all are delivered", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		clear(count)
		for _, p := range b.got {
			count[p.Stream]++
		}
		return len(b.got)-count["room/first"] >= 20_000
	})
	require.NoError(g.t, at10k(func(stream string) error {
		if count[stream] != 2 || len(b.lost(stream)) > 0 {
			return fmt.Errorf("%d of 2 publications delivered to %s", count[stream], stream)
		}
		return nil
	}))
}

func closeInOutage(g *group) {
	nodes := g.openAll(2, "room/a")
	g.Down(true)
	defer g.Down(false)
	early := g.open()
	calls := make(chan error, 1)
	go func() {
		_, err := nodes[0].b.Publish(context.Background(), note("room/a", 1))
		calls <- err
	}()
	for _, n := range []*node{nodes[0], nodes[1], early} {
		began := time.Now()
		_ = n.close()
		require.Less(g.t, time.Since(began), bound)
		_, err := n.b.Read(g.t.Context(), "room/a", broker.Query{})
		require.ErrorIs(g.t, err, broker.ErrClosed)
	}
	require.Error(g.t, <-calls)
}
