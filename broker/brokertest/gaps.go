package brokertest

import (
	"fmt"
	"strconv"
	"sync"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/broker"
)

func gapRules() []sharedRule {
	return []sharedRule{
		{"what was missed in a cut is delivered, though nothing follows", cuts, tailAfterCut},
		{"what was not passed on is delivered, though nothing follows", mutes, tailAfterMute},
		{"a gap is filled in order when something follows", mutes, gapInMiddle},
		{"Publish delivers what came before its own publication", mutes, gapBeforeOwn},
		{"what is gone is reported lost, once", cuts, goneIsLost},
		{"a gap of any size is filled or reported lost once", cuts, largeGap},
		{"lost data is reported first, and no position means two things", forgets, forgotten},
		{"lost data is reported though nothing follows", forgets, forgottenQuietly},
		{"ids, cursors and subscriptions work after lost data", forgets, afterForgotten},
	}
}

func (n *node) cut(g *group, cut bool)   { g.Cut(n.bus, cut) }
func (n *node) mute(g *group, mute bool) { g.Mute(n.bus, mute) }

// missTail lets the second node miss the last publications of streams, and requires that it
// delivers them in time after that.
func (g *group) missTail(miss func(n *node, yes bool)) {
	const streams = 20
	nodes := g.openAll(2, "room/0")
	a, b := nodes[0], nodes[1]
	for i := 1; i < streams; i++ {
		b.subscribe(fmt.Sprint("room/", i))
	}
	for round := range 3 {
		miss(b, true)
		for i := range streams {
			for k := range i%3 + 1 {
				a.publish(note(fmt.Sprint("room/", i), round*10+k))
			}
		}
		miss(b, false)
		for i := range streams {
			stream := fmt.Sprint("room/", i)
			top := a.read(stream, broker.Query{Limit: 1}).Top
			g.soon("the end of "+stream+" is delivered", func() bool { return b.at(stream, top) != nil })
			require.Empty(g.t, b.lost(stream))
			b.requireChain(stream)
		}
	}
}

func tailAfterCut(g *group)  { g.missTail(func(n *node, yes bool) { n.cut(g, yes) }) }
func tailAfterMute(g *group) { g.missTail(func(n *node, yes bool) { n.mute(g, yes) }) }

func gapInMiddle(g *group) {
	nodes := g.openAll(2, "room/a")
	a, b := nodes[0], nodes[1]
	a.fill("room/a", 3)
	g.settle("room/a")
	for range 3 {
		b.mute(g, true)
		a.fill("room/a", 120) // more than a page
		b.mute(g, false)
		a.fill("room/a", 3)
		g.settle("room/a")
	}
	g.requireWhole("room/a")
}

func gapBeforeOwn(g *group) {
	nodes := g.openAll(2, "room/a")
	a, b := nodes[0], nodes[1]
	b.mute(g, true)
	a.fill("room/a", 5)
	at := b.publish(note("room/a", 6)).Position
	require.NotNil(g.t, b.at("room/a", at), "it is delivered when Publish returns")
	require.Len(g.t, b.delivered("room/a"), 6)
	b.mute(g, false)
	a.publish(note("room/a", 7))
	g.settle("room/a")
	g.requireWhole("room/a")
}

// goesOn requires that a stream is delivered from now on, without another loss. Not all nodes need
// to be back at the same time after an outage.
func (g *group) goesOn(stream string) {
	g.t.Helper()
	var before []int
	for _, n := range g.nodes {
		n.insist("read", func() error {
			_, err := n.b.Read(g.t.Context(), stream, broker.Query{Limit: 1})
			return err
		})
		before = append(before, len(n.lost(stream)))
	}
	var at broker.Position
	for i := range 4 {
		at = g.nodes[i%len(g.nodes)].publish(note(stream, i)).Position
		for _, n := range g.nodes {
			g.soon("the stream goes on", func() bool { return n.at(stream, at) != nil })
		}
	}
	for i, n := range g.nodes {
		require.Len(g.t, n.lost(stream), before[i], "node %s", n.id)
		var now []uint64
		for _, p := range n.delivered(stream) {
			if p.Position.Epoch == at.Epoch {
				now = append(now, p.Position.Offset)
			}
		}
		require.IsIncreasing(g.t, now)
	}
}

func goneIsLost(g *group) {
	nodes := g.openAll(2, "room/a")
	a, b := nodes[0], nodes[1]
	a.fill("room/a", 2)
	g.settle("room/a")
	for round := range 2 {
		before := len(b.delivered("room/a"))
		b.cut(g, true)
		for i := range 30 {
			p := note("room/a", i)
			p.Keep.Messages = 5
			a.publish(p)
		}
		b.cut(g, false)
		g.soon("it is reported", func() bool { return len(b.lost("room/a")) > round })
		require.Equal(g.t, before, b.lost("room/a")[round], "before anything else is delivered")
		g.goesOn("room/a")
		require.Len(g.t, b.lost("room/a"), round+1)
	}
	require.Empty(g.t, a.lost("room/a"))
}

func largeGap(g *group) {
	const missed = 2500
	nodes := g.openAll(2, "room/a")
	a, b := nodes[0], nodes[1]
	b.cut(g, true)
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			for i := range missed / 10 {
				if _, err := a.b.Publish(g.t.Context(), note("room/a", i)); err != nil {
					g.t.Errorf("publish: %v", err)
				}
			}
		})
	}
	all.Wait()
	b.cut(g, false)
	g.soon("it is delivered or reported", func() bool {
		return len(b.delivered("room/a")) == missed || len(b.lost("room/a")) > 0
	})
	g.goesOn("room/a")
	require.LessOrEqual(g.t, len(b.lost("room/a")), 1)
	if len(b.lost("room/a")) == 0 {
		b.requireChain("room/a")
	}
}

// requireEpochsApart requires that what was delivered of a new epoch came after a loss, and that no
// position was given to two publications.
func (n *node) requireEpochsApart(stream string) {
	n.t.Helper()
	all, losses := n.delivered(stream), n.lost(stream)
	content := map[broker.Position]string{}
	for i, p := range all {
		require.Empty(n.t, content[p.Position], "%v was delivered twice", p.Position)
		content[p.Position] = string(p.Message.Content)
		if i > 0 && p.Position.Epoch != all[i-1].Position.Epoch {
			require.Contains(n.t, losses, i, "node %s reported no loss before %v", n.id, p.Position)
		}
	}
}

func forgotten(g *group) {
	nodes := g.openAll(2, "room/a")
	var old given
	for round := range 2 {
		for i := range 5 {
			p := identified("room/a", "alice", fmt.Sprint(round, "-", i))
			old = append(old, nodes[i%2].publishAtLast(p).Position)
		}
		g.Forget()
		var now given
		for i := range 8 { // more than before: the old offsets are given again, if anything is wrong
			p := identified("room/a", "bob", fmt.Sprint(round, "-", i))
			out := nodes[i%2].publishAtLast(p)
			require.False(g.t, out.Duplicate)
			now = append(now, out.Position)
		}
		for _, n := range nodes {
			g.soon("the end is delivered", func() bool {
				losses := n.lost("room/a")
				return len(losses) > round && (n.at("room/a", now[7]) != nil ||
					losses[len(losses)-1] == len(n.delivered("room/a")))
			})
			n.requireEpochsApart("room/a")
			for _, at := range old {
				page := n.read("room/a", broker.Query{After: at.Offset})
				require.NotEmpty(g.t, page.GapAfter(at), "%v", at)
			}
			now.requireHonest(n, "room/a")
		}
		old = append(old, now...)
	}
	g.goesOn("room/a")
}

func forgottenQuietly(g *group) {
	nodes := g.openAll(2, "room/a")
	for round := range 3 {
		nodes[0].publishAtLast(identified("room/a", "alice", strconv.Itoa(round)))
		g.settle("room/a")
		g.Forget()
		for _, n := range nodes {
			g.soon("it is reported", func() bool { return len(n.lost("room/a")) == round+1 })
			require.Equal(g.t, round+1, n.lost("room/a")[round])
		}
	}
	g.goesOn("room/a")
}

func afterForgotten(g *group) {
	nodes := g.openAll(2, "user/a")
	a, b := nodes[0], nodes[1]
	first := a.publish(identified("user/a", "alice", "1")).Position
	a.ack("user/a", "r", first)
	g.Forget()
	out := b.publishAtLast(identified("user/a", "alice", "1"))
	require.False(g.t, out.Duplicate, "the first one is lost")
	require.True(g.t, a.publishAtLast(identified("user/a", "alice", "1")).Duplicate)
	require.NotEqual(g.t, first.Epoch, out.Position.Epoch)
	require.ErrorIs(g.t, a.b.Ack(g.t.Context(), "user/a", "r", first), broker.ErrInvalidPosition)
	at := b.cursor("user/a", "r")
	require.Equal(g.t, out.Position.Epoch, at.Epoch)
	require.Less(g.t, at.Offset, out.Position.Offset)
	a.ack("user/a", "r", out.Position)
	require.Equal(g.t, out.Position, b.cursor("user/a", "r"))
	for _, n := range nodes {
		g.soon("it is reported", func() bool { return len(n.lost("user/a")) == 1 })
	}
	for i := range 10 {
		nodes[i%2].publish(identified("user/a", "bob", strconv.Itoa(i)))
	}
	g.goesOn("user/a")
}
