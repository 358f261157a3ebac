package brokertest

import (
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

func severalRules() []sharedRule {
	return []sharedRule{
		{"all brokers have one order, and deliver their own before Publish returns", 0, oneOrder},
		{"publishers at several brokers to many streams have one order in each", 0, orderOfMany},
		{"a publication is delivered as it was sent, at other brokers too", 0, wholeElsewhere},
		{"ids are known at all brokers", 0, idsAcross},
		{"of concurrent repeats at all brokers one is taken", 0, repeatsAcross},
		{"cursors are those of all brokers", 0, cursorsAcross},
		{"shares are those of all brokers", 0, sharesAcross},
		{"subscriptions are those of one broker", 0, subscriptionsApart},
		{"after Subscribe everything is delivered", 0, afterSubscribe},
		{"during Subscribe nothing is lost or doubled", 0, duringSubscribe},
		{"a stream continues after everything has expired", 0, expiredAcross},
		{"a position means one thing, when a stream ends and begins again", 0, onePositionForEver},
	}
}

// publishAtAll publishes at all nodes from several goroutines each, with an origin for each
// publication. It requires that the publisher's node delivers it before Publish returns.
func (g *group) publishAtAll(times int, stream func(i int) string) {
	var all sync.WaitGroup
	for _, n := range g.nodes {
		for worker := range 3 {
			all.Go(func() {
				for i := range times {
					p := note(stream(worker+i), i)
					origin := new(int)
					p.Message.Sender, p.Origin = n.id+"/"+strconv.Itoa(worker), origin
					out, err := one(n.b.Publish(g.t.Context(), p))
					if err != nil {
						g.t.Errorf("publish: %v", err)
					} else if got := n.at(p.Stream, out.Position); got == nil || got.Origin != any(origin) {
						g.t.Errorf("%s is not delivered with its origin when Publish returns", p.Message.Sender)
					}
				}
			})
		}
	}
	all.Wait()
}

// at returns the publication that was delivered with a position, or nil.
func (n *node) at(stream string, at broker.Position) *broker.Publication {
	for _, p := range n.delivered(stream) {
		if p.Position == at {
			return &p
		}
	}
	return nil
}

// requireOne requires that all nodes have delivered the stream in one order, which is that of each
// publisher, and that only what a node has published has an origin there.
func (g *group) requireOne(stream string) {
	g.t.Helper()
	g.settle(stream)
	g.requireWhole(stream)
	for _, n := range g.nodes {
		n.requireOrdered(stream)
		for _, p := range n.delivered(stream) {
			require.Equal(g.t, p.Message.Sender[:1] == n.id, p.Origin != nil,
				"the origin of %s at node %s", p.Message.Sender, n.id)
		}
	}
}

func oneOrder(g *group) {
	g.openAll(2, "room/a")
	g.publishAtAll(40, func(int) string { return "room/a" })
	g.requireOne("room/a")
	require.Len(g.t, g.nodes[0].delivered("room/a"), 2*3*40)
}

func orderOfMany(g *group) {
	const streams = 10
	for i := range streams {
		if i == 0 {
			g.openAll(2, "room/0")
			continue
		}
		for _, n := range g.nodes {
			n.subscribe(fmt.Sprint("room/", i))
		}
	}
	g.publishAtAll(60, func(i int) string { return fmt.Sprint("room/", i%streams) })
	total := 0
	for i := range streams {
		stream := fmt.Sprint("room/", i)
		g.requireOne(stream)
		total += len(g.nodes[1].delivered(stream))
	}
	require.Equal(g.t, 2*3*60, total)
}

func wholeElsewhere(g *group) {
	nodes := g.openAll(2, "room/a")
	a, b := nodes[0], nodes[1]
	p := binary(make([]byte, 3<<20))
	p.Target = broker.Target{
		Rooms: []string{"lobby"}, ExceptConns: []string{"c1"}, ExceptUsers: []string{"ünlü"},
	}
	p.Union, p.Message.ID = true, "1"
	for i := range p.Message.Binary {
		p.Message.Binary[i] = byte(i * 7 >> 3)
	}
	a.publish(p)
	a.publish(note("room/a", 2))
	g.settle("room/a")
	for _, got := range [][]broker.Publication{b.delivered("room/a"), b.all("room/a")} {
		require.Equal(g.t, p.Target, got[0].Target)
		require.Equal(g.t, p.Message, got[0].Message)
		require.True(g.t, got[0].Union)
		require.Equal(g.t, 2, number(g.t, got[1]))
	}
	require.Equal(g.t, a.delivered("room/a")[0].At.UnixNano(), b.delivered("room/a")[0].At.UnixNano())
}

func idsAcross(g *group) {
	nodes := g.openAll(2, "room/a")
	a, b := nodes[0], nodes[1]
	first := a.publish(identified("room/a", "alice", "1"))
	again := b.publish(identified("room/a", "alice", "1"))
	require.True(g.t, again.Duplicate)
	require.Equal(g.t, first.Position, again.Position)
	require.False(g.t, b.publish(identified("room/a", "bob", "1")).Duplicate)
	require.True(g.t, a.publish(identified("room/a", "bob", "1")).Duplicate)
	g.settle("room/a")
	g.requireWhole("room/a")
	require.Len(g.t, b.delivered("room/a"), 2)
}

func repeatsAcross(g *group) {
	g.openAll(2, "room/a")
	for round := range 10 {
		outs := make([]broker.Published, 12)
		var all sync.WaitGroup
		for i := range outs {
			p := identified("room/a", "alice", strconv.Itoa(round))
			all.Go(func() { outs[i], _ = one(g.nodes[i%2].b.Publish(g.t.Context(), p)) })
		}
		all.Wait()
		requireTakenOnce(g.t, outs)
	}
	g.settle("room/a")
	g.requireWhole("room/a")
	require.Len(g.t, g.nodes[1].delivered("room/a"), 10)
}

func cursorsAcross(g *group) {
	nodes := g.openAll(2, "user/a")
	a, b := nodes[0], nodes[1]
	at := a.fill("user/a", 4)
	require.Zero(g.t, b.cursor("user/a", "r").Offset)
	a.ack("user/a", "r", at[1])
	require.Equal(g.t, at[1], b.cursor("user/a", "r"))
	require.Equal(g.t, []int{3, 4}, b.unread("user/a", "r"))
	b.ack("user/a", "r", at[0])
	require.Equal(g.t, at[1], a.cursor("user/a", "r"), "it does not move back")
	b.ack("user/a", "r", at[3])
	require.Empty(g.t, a.unread("user/a", "r"))
	ahead := broker.Position{Epoch: at[3].Epoch, Offset: at[3].Offset + 1}
	require.ErrorIs(g.t, b.b.Ack(g.t.Context(), "user/a", "r", ahead), broker.ErrInvalidPosition)
	b.publish(note("user/a", 5))
	require.Equal(g.t, []int{5}, a.unread("user/a", "r"))
}

func sharesAcross(g *group) {
	nodes := g.openAll(2, box)
	kept := 0
	for range 10 {
		for _, n := range nodes {
			kept += n.offer(1, by("mallory"))
		}
	}
	require.Equal(g.t, 5, kept)
	require.Equal(g.t, 3, nodes[1].offer(10, by("alice")))
	require.Equal(g.t, map[string]int{"mallory": 5, "alice": 3}, nodes[0].senders())
	nodes[0].ack(box, "", nodes[0].read(box, broker.Query{}).Top)
	require.Equal(g.t, 5, nodes[1].offer(10, by("alice")))
}

func subscriptionsApart(g *group) {
	nodes := g.openAll(2, "room/a")
	a, b := nodes[0], nodes[1]
	a.unsubscribe("room/a")
	a.publish(note("room/a", 1))
	g.soon("it is delivered at b", func() bool { return len(b.delivered("room/a")) == 1 })
	b.subscribe("room/a")
	b.unsubscribe("room/a")
	b.publish(note("room/a", 2))
	require.Len(g.t, b.delivered("room/a"), 2)
	require.Empty(g.t, a.delivered("room/a"))
	top := b.read("room/a", broker.Query{}).Top
	require.Equal(g.t, top, a.subscribe("room/a"))
	b.unsubscribe("room/a")
	b.publish(note("room/a", 3))
	g.soon("it is delivered at a", func() bool { return len(a.delivered("room/a")) == 1 })
	require.Len(g.t, b.delivered("room/a"), 2)
}

// What is published at once after Subscribe is the last publication: nothing follows that would
// show that it is missing.
func afterSubscribe(g *group) {
	nodes := g.openAll(2, "room/first")
	a, b := nodes[0], nodes[1]
	for i := range 50 {
		stream := fmt.Sprint("room/", i)
		b.subscribe(stream)
		a.publish(note(stream, i))
	}
	for i := range 50 {
		stream := fmt.Sprint("room/", i)
		g.soon("it is delivered", func() bool { return len(b.delivered(stream)) == 1 })
		require.Equal(g.t, []int{i}, numbers(g.t, b.delivered(stream)))
	}
}

func duringSubscribe(g *group) {
	nodes := g.openAll(2, "room/first")
	a, b := nodes[0], nodes[1]
	for round := range 10 {
		stream := fmt.Sprint("room/", round)
		var at broker.Position
		var subscribed sync.WaitGroup
		subscribed.Go(func() { at = b.subscribe(stream) })
		a.fill(stream, 20)
		subscribed.Wait()
		var want []uint64
		for _, offset := range offsets(a.all(stream)) {
			if offset > at.Offset {
				want = append(want, offset)
			}
		}
		g.soon("the rest is delivered", func() bool { return len(b.delivered(stream)) >= len(want) })
		require.ElementsMatch(g.t, want, offsets(b.delivered(stream)))
		require.IsIncreasing(g.t, append([]uint64{at.Offset}, offsets(b.delivered(stream))...))
	}
}

func expiredAcross(g *group) {
	nodes := g.openAll(2, "room/a")
	a, b := nodes[0], nodes[1]
	var at []broker.Position
	for i := range 3 {
		p := note("room/a", i)
		p.Keep.Age = 3 * time.Second // in which all brokers get it
		at = append(at, nodes[i%2].publish(p).Position)
	}
	g.settle("room/a")
	b.eventually("they expire", func() bool { return len(a.all("room/a")) == 0 })
	for _, n := range nodes {
		page := n.read("room/a", broker.Query{})
		require.Equal(g.t, at[2], page.Top)
		require.Equal(g.t, at[2].Offset, page.Floor)
		require.Equal(g.t, broker.ReasonExpired, page.Why)
		require.Empty(g.t, page.GapAfter(at[2]))
		require.Equal(g.t, broker.ReasonExpired, page.GapAfter(at[1]))
	}
	b.publish(note("room/a", 3))
	require.Equal(g.t, at[2].Offset, a.prev("room/a"))
	g.settle("room/a")
	for _, n := range nodes {
		require.Equal(g.t, []int{0, 1, 2, 3}, numbers(g.t, n.delivered("room/a")))
		require.Empty(g.t, n.lost("room/a"))
	}
}

// given are the positions of all publications to one stream, in their order.
type given []broker.Position

// requireHonest requires that from each of the positions a reader gets everything that came after
// it, or is told that something is missing.
func (at given) requireHonest(n *node, stream string) {
	n.t.Helper()
	for i, p := range at {
		for _, other := range at[:i] {
			require.NotEqual(n.t, other, p, "a position was given twice")
		}
		page := n.read(stream, broker.Query{After: p.Offset, Limit: 1000, Bytes: 1 << 20})
		if page.GapAfter(p) != "" {
			continue
		}
		var after []broker.Position
		for _, kept := range page.Publications {
			after = append(after, kept.Position)
		}
		require.Equal(n.t, []broker.Position(at[i+1:]), append([]broker.Position{}, after...),
			"after %v", p)
	}
}

func onePositionForEver(g *group) {
	a, b := g.open(), g.open()
	a.subscribeNow("room/first")
	b.subscribeNow("room/first")
	for _, keep := range []broker.Retention{
		{}, {Messages: 1, Age: briefTime}, {Messages: 10, Age: briefTime},
	} {
		stream := fmt.Sprint("room/", keep.Messages, keep.Age)
		var at given
		for round := range 4 {
			n := g.nodes[round%2]
			n.subscribe(stream)
			for i := range round + 1 {
				p := note(stream, i)
				p.Keep = keep
				at = append(at, n.publish(p).Position)
				at.requireHonest(g.nodes[(round+i)%2], stream)
			}
			n.unsubscribe(stream)
			n.eventually("it is empty", func() bool { return len(n.all(stream)) == 0 })
			at.requireHonest(b, stream)
		}
	}
}
