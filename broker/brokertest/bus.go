package brokertest

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

func busRules() []sharedRule {
	return []sharedRule{
		{"Send reaches each other listener once for each subject", sure, sendOnce},
		{"Send says that nobody listens", 0, sendToNobody},
		{"what one broker sends to a subject keeps its order", sure, sendOrder},
		{"Listen is in force when it returns", sure, listenAtOnce},
		{"listens are counted", sure, listensCounted},
		{"a Listen in an outage is in force after it", sure | outages, listenInOutage},
		{"listens are in force again after an outage", sure | outages, listenAfterOutage},
		{"who listens to the name of a stream gets its publications", sure, listenToStream},
		{"subjects can have any bytes, and are independent", sure, subjects},
		{"what is sent can be large or empty", sure, sendLarge},
		{"all methods of a Bus return ErrClosed after Close", 0, busClosed},
		{"all methods of a Bus return the error of an ended context", 0, busEnded},
		{"a Bus is safe for concurrent use", 0, busRace},
	}
}

// openListening returns brokers that listen to a subject.
func (g *group) openListening(n int, subject string) []*node {
	g.t.Helper()
	for _, one := range g.openAll(n, "room/first") {
		one.listen(subject)
	}
	return g.nodes
}

func sendOnce(g *group) {
	nodes := g.openListening(3, "x")
	nodes[1].listen("y")
	require.Equal(g.t, 3, nodes[0].send("hello", 3, "x", "y", "z"))
	require.Equal(g.t, 2, nodes[2].send("more", 2, "x"))
	g.soon("they arrive", func() bool {
		return len(nodes[0].texts("x")) == 1 && len(nodes[1].texts("x")) == 2 &&
			len(nodes[1].texts("y")) == 1 && len(nodes[2].texts("x")) == 1
	})
	require.Equal(g.t, []string{"more"}, nodes[0].texts("x"), "not to itself")
	require.ElementsMatch(g.t, []string{"hello", "more"}, nodes[1].texts("x"))
	require.Equal(g.t, []string{"hello"}, nodes[1].texts("y"))
	require.Equal(g.t, []string{"hello"}, nodes[2].texts("x"))
	require.Empty(g.t, nodes[2].texts("y"))
}

func sendToNobody(g *group) {
	nodes := g.openListening(2, "x")
	require.Zero(g.t, nodes[0].send("hello", 0, "nobody"))
	require.Zero(g.t, nodes[0].send("hello", 0))
	nodes[0].listen("own")
	require.Zero(g.t, nodes[0].send("hello", 0, "own"), "it is not a receiver itself")
}

func sendOrder(g *group) {
	const times = 300
	nodes := g.openListening(3, "x")
	var all sync.WaitGroup
	for _, n := range nodes[:2] {
		all.Go(func() {
			for i := range times {
				if _, err := n.bus.Send(g.t.Context(), []byte(n.id+" "+strconv.Itoa(i)), "x"); err != nil {
					g.t.Errorf("send: %v", err)
				}
			}
		})
	}
	all.Wait()
	c := nodes[2]
	g.soon("all arrive", func() bool { return len(c.texts("x")) == 2*times })
	next := map[string]int{}
	for _, text := range c.texts("x") {
		by, i, _ := strings.Cut(text, " ")
		require.Equal(g.t, strconv.Itoa(next[by]), i, "of node %s", by)
		next[by]++
	}
}

func listenAtOnce(g *group) {
	nodes := g.openListening(2, "first")
	for i := range 100 {
		subject := fmt.Sprint("x", i)
		nodes[1].listen(subject)
		require.Equal(g.t, 1, nodes[0].send(subject, 1, subject))
	}
	for i := range 100 {
		subject := fmt.Sprint("x", i)
		g.soon("it arrives", func() bool { return len(nodes[1].texts(subject)) == 1 })
	}
}

func listensCounted(g *group) {
	nodes := g.openListening(2, "last")
	a, b := nodes[0], nodes[1]
	b.unlisten("x") // does nothing
	b.listen("x")
	b.listen("x")
	a.send("1", 1, "x")
	g.soon("it arrives once", func() bool { return len(b.texts("x")) > 0 })
	b.unlisten("x")
	a.send("2", 1, "x")
	g.soon("it arrives", func() bool { return len(b.texts("x")) == 2 })
	b.unlisten("x")
	a.send("3", 0, "x")
	a.send("3", 1, "last")
	g.soon("the last one arrives", func() bool { return len(b.texts("last")) == 1 })
	require.Equal(g.t, []string{"1", "2"}, b.texts("x"))
	b.listen("x")
	a.send("4", 1, "x")
	g.soon("it arrives", func() bool { return len(b.texts("x")) == 3 })
	require.Equal(g.t, []string{"1", "2", "4"}, b.texts("x"))
}

// arrives sends to a subject again and again until one arrives.
func (g *group) arrives(from, to *node, subject string) {
	g.t.Helper()
	g.soon("it arrives", func() bool {
		_, _ = from.bus.Send(g.t.Context(), []byte("hello"), subject)
		return len(to.texts(subject)) > 0
	})
}

func listenInOutage(g *group) {
	nodes := g.openListening(2, "first")
	g.Down(true)
	g.soon("the outage begins", func() bool {
		_, err := nodes[1].b.Read(g.t.Context(), "room/a", broker.Query{})
		return err != nil
	})
	require.ErrorIs(g.t, nodes[1].bus.Listen(g.t.Context(), "x"), broker.ErrUnavailable)
	require.ErrorIs(g.t, nodes[1].bus.Listen(g.t.Context(), "y"), broker.ErrUnavailable)
	if err := nodes[1].bus.Unlisten(g.t.Context(), "y"); err != nil {
		require.ErrorIs(g.t, err, broker.ErrUnavailable)
	}
	g.Down(false)
	g.arrives(nodes[0], nodes[1], "x")
	nodes[0].send("hello", 0, "y", "first")
	g.soon("it arrives", func() bool { return len(nodes[1].texts("first")) == 1 })
	require.Empty(g.t, nodes[1].texts("y"), "its Listen has ended")
}

func listenAfterOutage(g *group) {
	nodes := g.openListening(2, "0")
	for i := range 100 {
		nodes[1].listen(strconv.Itoa(i))
	}
	g.Down(true)
	for _, n := range nodes {
		n.eventually("it is told", func() bool { return len(n.wasCut()) == 1 })
	}
	g.Down(false)
	for _, n := range nodes {
		g.soon("it is told again", func() bool { return len(n.wasCut()) == 2 })
	}
	for i := range 100 {
		nodes[0].send("hello", 1, strconv.Itoa(i))
	}
	for i := range 100 {
		g.soon("it arrives", func() bool { return len(nodes[1].texts(strconv.Itoa(i))) == 1 })
	}
}

func listenToStream(g *group) {
	nodes := g.openListening(3, "room/a")
	a, b, c := nodes[0], nodes[1], nodes[2]
	c.subscribe("room/a")
	for i := range 20 {
		a.publish(note("room/a", i))
	}
	a.send("hello", 2, "room/a")
	for _, n := range []*node{b, c} {
		g.soon("they are delivered", func() bool {
			return len(n.delivered("room/a")) == 20 && len(n.texts("room/a")) == 1
		})
		n.requireChain("room/a")
		require.Empty(g.t, n.lost("room/a"))
	}
	b.listen("room/b") // to which nobody is subscribed
	a.publish(note("room/b", 1))
	g.soon("it is delivered", func() bool { return len(b.delivered("room/b")) == 1 })
	b.unlisten("room/a")
	c.unlisten("room/a")
	a.publish(note("room/a", 21))
	g.soon("the subscription is left", func() bool { return len(c.delivered("room/a")) == 21 })
	require.Len(g.t, b.delivered("room/a"), 20)
}

func subjects(g *group) {
	nodes := g.openListening(2, "first")
	for _, subject := range hostile() {
		nodes[1].listen(subject)
	}
	for _, subject := range hostile() {
		require.Equal(g.t, 1, nodes[0].send(subject, 1, subject), "%q", subject)
	}
	for _, subject := range hostile() {
		g.soon("it arrives", func() bool { return len(nodes[1].texts(subject)) == 1 })
		require.Equal(g.t, []string{subject}, nodes[1].texts(subject))
	}
}

func sendLarge(g *group) {
	nodes := g.openListening(3, "x")
	data := make([]byte, 3<<20)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	before := string(data)
	for _, sent := range [][]byte{data, {}, data[:1]} {
		_, err := nodes[0].bus.Send(g.t.Context(), sent, "x")
		require.NoError(g.t, err)
	}
	for _, n := range nodes[1:] {
		g.soon("they arrive", func() bool { return len(n.texts("x")) == 3 })
		got := n.texts("x")
		require.True(g.t, before == got[0])
		require.Equal(g.t, []string{"", before[:1]}, got[1:])
	}
	require.True(g.t, before == string(data), "the receivers have their own")
}

// methods calls the methods that only a Bus has, and returns their errors.
func (n *node) methods(ctx context.Context) map[string]error {
	_, send := n.bus.Send(ctx, []byte("x"), "x")
	return map[string]error{
		"Send": send, "Listen": n.bus.Listen(ctx, "x"), "Unlisten": n.bus.Unlisten(ctx, "x"),
	}
}

func busClosed(g *group) {
	nodes := g.openListening(2, "x")
	require.NoError(g.t, nodes[1].close())
	before := len(nodes[1].texts("x"))
	_, err := nodes[0].bus.Send(g.t.Context(), []byte("hello"), "x")
	require.NoError(g.t, err, "the others go on")
	for name, err := range nodes[1].methods(g.t.Context()) {
		require.ErrorIs(g.t, err, broker.ErrClosed, name)
	}
	nodes[0].publish(note("room/first", 1))
	require.Len(g.t, nodes[0].delivered("room/first"), 1)
	require.Len(g.t, nodes[1].texts("x"), before)
	require.Empty(g.t, nodes[1].delivered("room/first"))
	require.Empty(g.t, nodes[1].wasCut(), "a Close is no cut")
}

func busEnded(g *group) {
	n := g.openListening(1, "x")[0]
	ctx, cancel := context.WithCancel(g.t.Context())
	cancel()
	for name, err := range n.methods(ctx) {
		require.ErrorIs(g.t, err, context.Canceled, name)
	}
}

func busRace(g *group) {
	nodes := g.openListening(3, "room/first")
	ctx := g.t.Context()
	var all sync.WaitGroup
	for _, n := range nodes {
		for worker := range 4 {
			all.Go(func() {
				for i := range 30 {
					name := "room/" + strconv.Itoa((worker+i)%3)
					_, subscribe := n.b.Subscribe(ctx, name)
					_, publish := n.b.Publish(ctx, note(name, i))
					_, send := n.bus.Send(ctx, []byte(name), "s/"+name, "room/first")
					for _, err := range []error{
						subscribe, publish, send, n.bus.Listen(ctx, "s/"+name),
						n.bus.Unlisten(ctx, "s/"+name), n.b.Unsubscribe(ctx, name),
					} {
						if err != nil {
							g.t.Errorf("at %s: %v", name, err)
						}
					}
				}
			})
		}
	}
	all.Wait()
	for _, n := range nodes {
		require.Len(g.t, n.all("room/0"), 3*4*10)
		require.IsIncreasing(g.t, n.inOrder("room/1"))
	}
	g.goesOn("room/first")
}

// inOrder returns the offsets that were delivered of a stream, after zero. Each comes once: a
// subscription that begins again does not begin before the end of the last one.
func (n *node) inOrder(stream string) []uint64 {
	return append([]uint64{0}, offsets(n.delivered(stream))...)
}
