package state

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/long"
)

// model is a reader of a table: what it has, and the version of that.
type model struct {
	has     map[string]int
	version uint64
	seen    map[string]int // the newest value of each key that it was ever given
}

// pull brings a model up to date as a client would do, and checks what it was given.
func (m *model) pull(t *testing.T, table *table[int]) {
	reset := m.version == 0 || !table.knows(m.version)
	from := m.version
	if reset {
		from, m.has = 0, make(map[string]int)
	}
	given := make(map[string]bool)
	last := from
	for _, c := range table.after(from) {
		require.False(t, given[c.key], "a key twice")
		given[c.key] = true
		require.Greater(t, c.version, last, "order")
		last = c.version
		if c.gone {
			delete(m.has, c.key)
			continue
		}
		require.GreaterOrEqual(t, c.value, m.seen[c.key], "an older value")
		m.has[c.key], m.seen[c.key] = c.value, c.value
	}
	m.version = table.version
}

// step changes a table and the truth. Values grow, so an older value is recognised.
type world struct {
	table table[int]
	truth map[string]int
	n     int
}

func (w *world) step(key string, what int) {
	w.n++
	switch {
	case what < 60:
		w.table.set(key, w.n)
		w.truth[key] = w.n
	case what < 99:
		w.table.remove(key, 0)
		delete(w.truth, key)
	default:
		w.table.forget()
	}
}

func (w *world) check(t *testing.T) {
	require.Equal(t, len(w.truth), w.table.len())
	bound := 2 * max(minRecent, 2*w.table.len())
	require.LessOrEqual(t, len(w.table.recent), bound+1)
	require.LessOrEqual(t, w.table.gone, bound+1)
	require.Equal(t, w.table.gone+w.table.len(), len(w.table.cells))
}

func newWorld() *world { return &world{table: newTable[int](), truth: make(map[string]int)} }

// TestTableModel lets readers pull at random times. What a reader has is the truth at its version,
// whatever happened in between.
func TestTableModel(t *testing.T) {
	seeds := long.Of(200, 2000, 10_000)
	resets, pulls := 0, 0
	for seed := range seeds {
		r := rand.New(rand.NewPCG(uint64(seed), 18))
		w := newWorld()
		models := make([]*model, 4)
		for i := range models {
			models[i] = &model{has: map[string]int{}, seen: map[string]int{}}
		}
		keys := 1 + r.IntN(60)
		for range 400 {
			for range 1 + r.IntN(4) {
				w.step(fmt.Sprint("k", r.IntN(keys)), r.IntN(100))
			}
			w.check(t)
			// The first model pulls often, the last one rarely.
			for i, m := range models {
				if r.IntN(1+i*i*20) == 0 {
					if m.version != 0 && !w.table.knows(m.version) {
						resets++
					}
					m.pull(t, &w.table)
					pulls++
					require.True(t, maps.Equal(w.truth, m.has), "seed %d: %v, want %v", seed, m.has, w.truth)
				}
			}
		}
	}
	require.Positive(t, resets)
	require.Greater(t, pulls, resets)
}

// A reader of the newest version gets nothing, and one of a version that never was begins anew.
func TestTableVersions(t *testing.T) {
	w := newWorld()
	require.Equal(t, w.table.floor, w.table.version)
	w.table.set("a", 1)
	v := w.table.version
	require.Empty(t, w.table.after(v))
	require.False(t, w.table.knows(v+1))
	require.False(t, w.table.knows(w.table.floor-1))
	other := newTable[int]()
	require.False(t, other.knows(v), "versions of two tables are not confused")
	w.table.remove("b", 0)
	require.Equal(t, v, w.table.version, "removing nothing changes nothing")
}

func FuzzTable(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 200, 5, 255, 1, 2, 129, 130, 131})
	f.Fuzz(func(t *testing.T, steps []byte) {
		w := newWorld()
		m := &model{has: map[string]int{}, seen: map[string]int{}}
		for _, b := range steps {
			if b >= 250 {
				m.pull(t, &w.table)
				require.True(t, maps.Equal(w.truth, m.has))
				continue
			}
			w.step(fmt.Sprint("k", b%8), int(b)*100/250)
			w.check(t)
		}
	})
}

// A table gives back the memory of many cells that it once had.
func TestTableShrinks(t *testing.T) {
	table := newTable[int]()
	const n = 10_000
	for i := range n {
		table.set(fmt.Sprint(i), i)
	}
	for i := range n {
		table.remove(fmt.Sprint(i), 0)
	}
	for range 10 * minRecent {
		table.set("last", 0)
	}
	require.Len(t, table.cells, 1)
	require.Positive(t, table.peak)
	require.Less(t, table.peak, n/10)
	require.Less(t, cap(table.recent), n/10)
}
