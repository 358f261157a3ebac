package integration_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/long"
	"github.com/realtime-go/realtime/internal/memengine"
)

// TestNodesNeverDisagreeForLong lets pages come, go, resume and be removed on nodes that lose messages.
// Who watches all the time ends up with the members that there are, and notices alternate.
func TestNodesNeverDisagreeForLong(t *testing.T) {
	for seed := range uint64(long.Of(30, 200, 1000)) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			c := &crowd{dice: rand.New(rand.NewPCG(seed, 1))}
			cluster(t, 3, shared(), func(t *testing.T, ns *nodes) {
				c.ns, c.t = ns, t
				c.watch()
				ns.engine.SetFaults(memengine.Faults{
					Delay: 30 * time.Millisecond, Loss: []float64{0, 0.05, 0.3}[seed%3],
				})
				for range 200 {
					c.step(seed%2 == 1)
					time.Sleep(time.Duration(c.dice.IntN(300)) * time.Millisecond)
					c.see()
				}
				for _, bus := range ns.buses {
					ns.engine.Cut(bus, false)
				}
				ns.engine.SetFaults(memengine.Faults{})
				for range 60 {
					time.Sleep(time.Second)
					c.see()
				}
				c.check()
			})
		})
	}
}

// crowd is a cluster with pages, watchers and plain clients.
type crowd struct {
	t        *testing.T
	ns       *nodes
	dice     *rand.Rand
	pages    []*crowdPage
	plain    []*client // one of each node
	watchers []*client
	folds    []*fold
	inside   []map[string]bool // users, as the plain clients know
	nobodies [3]int            // anonymous members, as they know
}

type crowdPage struct {
	*page
	bed       *bed
	user, key string
}

func (c *crowd) watch() {
	for i, b := range c.ns.beds {
		p := b.open(fmt.Sprint("plain", i))
		c.plain, c.inside = append(c.plain, p), append(c.inside, map[string]bool{})
		w := b.openV1(realtime.Identity{UserID: fmt.Sprint("watcher", i)})
		c.watchers, c.folds = append(c.watchers, w), append(c.folds, b.watch(w, "room", ""))
		c.folds[i].recounts = true
		b.joinAll(p, "room")
	}
	time.Sleep(5 * time.Second)
	for i, p := range c.plain {
		p.discard()
		for n := range c.plain {
			c.inside[i][fmt.Sprint("plain", n)] = true
			c.inside[i][fmt.Sprint("watcher", n)] = true
		}
	}
}

// see takes what watchers and plain clients get.
func (c *crowd) see() {
	for i, f := range c.folds {
		f.see(c.watchers[i])
		for _, notice := range c.plain[i].got() {
			words := strings.Fields(notice)
			in, user := words[1] == "in", words[0]
			if user == "nobody" { // each is told
				if c.nobodies[i]--; in {
					c.nobodies[i] += 2
				}
				continue
			}
			require.NotEqual(c.t, in, c.inside[i][user], "node %d: %s", i, notice)
			c.inside[i][user] = in
		}
	}
}

func (c *crowd) step(cuts bool) {
	ctx := c.t.Context()
	b := c.ns.beds[c.dice.IntN(3)]
	var p *crowdPage
	at := 0
	if len(c.pages) > 0 {
		at = c.dice.IntN(len(c.pages))
		p = c.pages[at]
	}
	if p == nil || c.dice.IntN(4) == 0 {
		user := fmt.Sprint("user", c.dice.IntN(4))
		if c.dice.IntN(6) == 0 {
			user = ""
		}
		p = &crowdPage{b.page(user, fmt.Sprint("key", user, c.dice.IntN(3))), b, user, ""}
		p.say(`{"type":"join","id":1,"room":"room","presence":true,"state":%d}`, c.dice.IntN(9))
		c.pages = append(c.pages, p)
		return
	}
	switch c.dice.IntN(12) {
	case 0, 1:
		p.say(`{"type":"state","room":"room","state":%d}`, c.dice.IntN(9))
	case 2:
		_ = p.conn.SetInfo(c.dice.IntN(9))
	case 3:
		p.say(`{"type":"leave","room":"room"}`)
	case 4:
		p.say(`{"type":"join","id":1,"room":"room","presence":true,"state":%d}`, c.dice.IntN(9))
	case 5, 6:
		p.lose()
		c.pages = slices.Delete(c.pages, at, at+1)
	case 7:
		p.leave()
		c.pages = slices.Delete(c.pages, at, at+1)
	case 8, 9: // resumes, perhaps late, perhaps at another node
		if c.dice.IntN(2) == 0 {
			p.lose()
			time.Sleep(time.Duration(c.dice.IntN(6)) * time.Second)
		}
		to := p.bed
		if c.dice.IntN(3) == 0 {
			to = b
		}
		again := &crowdPage{to.page(p.user, fmt.Sprint("key", p.user, c.dice.IntN(3))), to, p.user, ""}
		again.say(`{"type":"resume","id":1,"session":%q}`, p.welcome.Content.Session)
		again.say(`{"type":"join","id":1,"room":"room","presence":true,"state":%d}`, c.dice.IntN(9))
		p.lose()
		c.pages[at] = again
	case 10:
		if p.user != "" {
			_, _ = b.Room("room").Remove(ctx, p.user)
		}
	case 11:
		if cuts {
			c.ns.engine.Cut(c.ns.buses[c.dice.IntN(3)], c.dice.IntN(2) == 0)
		}
	}
}

// check requires that all know the members that there are.
func (c *crowd) check() {
	members, err := c.ns.beds[0].Room("room").Members(c.t.Context())
	require.NoError(c.t, err)
	users, nobodies := map[string]bool{}, 0
	for _, m := range members {
		if m.User != "" {
			users[m.User] = true
		} else {
			nobodies++
		}
	}
	for i, f := range c.folds {
		f.same(c.ns.beds[i].Manager)
		require.Equal(c.t, []int{len(users), len(members)}, []int{f.users, f.conns}, "node %d", i)
		require.Equal(c.t, nobodies, c.nobodies[i], "node %d", i)
		for user, in := range c.inside[i] {
			require.Equal(c.t, users[user], in, "node %d: %s", i, user)
		}
		list := c.watchers[i].request(`{"type":"presence","id":3,"room":"room"}`)[0]
		require.Contains(c.t, list, fmt.Sprintf(`"user_count":%d,"connection_count":%d`, len(users), len(members)))
	}
	for _, p := range c.pages {
		p.lose()
	}
	synctest.Wait()
}
