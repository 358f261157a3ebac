package state

import (
	"cmp"
	"math/rand/v2"
	"slices"

	"github.com/realtime-go/realtime/internal/shrink"
)

// minRecent is how many changes a table remembers at least.
const minRecent = 64

// table is a set of cells by key, with a version of the table for each change. It remembers the
// keys of the last changes, at least twice as many as it has cells: so it can tell what has changed
// since a version, each cell once, as it is now. A reader of an older version must begin anew.
//
// Versions begin at a random number. So a version of an earlier table with the same name, or of
// another process, is almost certainly not taken for one of this table.
type table[T any] struct {
	version uint64 // of the last change
	floor   uint64 // all changes after this version are in recent
	cells   map[string]*cell[T]
	peak    int // see shrink.Delete
	gone    int // cells that are removed
	recent  []change
}

// cell is the value of a key. A removed cell stays until the table forgets the change.
type cell[T any] struct {
	key     string
	value   T
	version uint64
	gone    bool
}

type change struct {
	key     string
	version uint64
}

// maxFirstVersion keeps versions below 2⁵³, up to which JavaScript knows all integers.
const maxFirstVersion = 1 << 52

func newTable[T any]() table[T] {
	first := 1 + rand.Uint64N(maxFirstVersion)
	return table[T]{version: first, floor: first, cells: make(map[string]*cell[T])}
}

// len returns the number of cells that are not removed.
func (t *table[T]) len() int { return len(t.cells) - t.gone }

// get returns the value of a key.
func (t *table[T]) get(key string) (value T, ok bool) {
	if c := t.cells[key]; c != nil && !c.gone {
		return c.value, true
	}
	return value, false
}

// set gives a key a value.
func (t *table[T]) set(key string, value T) { t.change(key, value, false) }

// remove removes a key. value takes the place of its value for readers that have not heard of it.
// If there is no such key, nothing happens.
func (t *table[T]) remove(key string, value T) {
	if _, ok := t.get(key); ok {
		t.change(key, value, true)
	}
}

func (t *table[T]) change(key string, value T, gone bool) {
	c := t.cells[key]
	if c == nil {
		c = &cell[T]{key: key}
		t.cells[key] = c
	} else if c.gone {
		t.gone--
	}
	if gone {
		t.gone++
	}
	t.version++
	c.value, c.version, c.gone = value, t.version, gone
	t.recent = append(t.recent, change{key, t.version})
	t.trim(max(minRecent, 2*t.len()))
}

// trim forgets the oldest changes, so that n remain.
func (t *table[T]) trim(n int) {
	if len(t.recent) <= 2*n { // not for each change
		return
	}
	old := t.recent[:len(t.recent)-n]
	for _, ch := range old {
		if c := t.cells[ch.key]; c != nil && c.gone && c.version == ch.version {
			t.cells = shrink.Delete(t.cells, ch.key, &t.peak)
			t.gone--
		}
	}
	t.floor = old[len(old)-1].version
	t.recent = slices.Clone(t.recent[len(old):])
}

// touch makes a version in which no cell has changed.
func (t *table[T]) touch() {
	t.version++
	t.recent = append(t.recent, change{"", t.version})
	t.trim(max(minRecent, 2*t.len()))
}

// forget makes every version before the next change unknown.
func (t *table[T]) forget() {
	t.version++
	t.recent = append(t.recent, change{"", t.version})
	t.trim(0)
}

// knows reports whether the table remembers all changes after a version.
func (t *table[T]) knows(version uint64) bool {
	return t.floor <= version && version <= t.version
}

// since returns the cells that have changed after a version that the table knows, in the order of
// their versions.
func (t *table[T]) since(version uint64) (changed []*cell[T]) {
	from, _ := slices.BinarySearchFunc(t.recent, version+1, func(ch change, v uint64) int {
		return cmp.Compare(ch.version, v)
	})
	for _, ch := range t.recent[from:] {
		if c := t.cells[ch.key]; c != nil && c.version == ch.version {
			changed = append(changed, c)
		}
	}
	return changed
}

// after returns the cells that have changed after a version, in the order of their versions. If the
// table does not know the version, removed cells are missing that it has forgotten.
func (t *table[T]) after(version uint64) []*cell[T] {
	if t.knows(version) {
		return t.since(version)
	}
	var cells []*cell[T]
	for _, c := range t.cells {
		if c.version > version {
			cells = append(cells, c)
		}
	}
	slices.SortFunc(cells, func(a, b *cell[T]) int { return cmp.Compare(a.version, b.version) })
	return cells
}
