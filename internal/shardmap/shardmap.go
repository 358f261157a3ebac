// Package shardmap provides a concurrent map whose keys are names.
package shardmap

import (
	"hash/maphash"
	"sync"

	"github.com/realtime-go/realtime/internal/shrink"
)

// numShards is a power of two, much larger than the number of cores.
const numShards = 64

// Map is a map divided into shards, each with its own lock. It is safe for concurrent use. Use
// [New] to make one.
type Map[V comparable] struct {
	seed   maphash.Seed
	shards [numShards]shard[V]
}

type shard[V comparable] struct {
	mu     sync.RWMutex
	values map[string]V
	peak   int      // see shrink.Delete
	_      [24]byte // puts each lock on its own cache line
}

// New returns an empty map.
func New[V comparable]() *Map[V] {
	m := &Map[V]{seed: maphash.MakeSeed()}
	for i := range m.shards {
		m.shards[i].values = make(map[string]V)
	}
	return m
}

func (m *Map[V]) shard(name string) *shard[V] {
	return &m.shards[maphash.String(m.seed, name)&(numShards-1)]
}

// Get returns the value of a name and whether the name exists.
func (m *Map[V]) Get(name string) (V, bool) {
	s := m.shard(name)
	s.mu.RLock()
	defer s.mu.RUnlock()
	v, ok := s.values[name]
	return v, ok
}

// GetOrPut returns the value of a name. If the name does not exist, GetOrPut stores the result of
// create, which is called with a lock held: it must not block nor use the map.
func (m *Map[V]) GetOrPut(name string, create func() V) V {
	if v, ok := m.Get(name); ok {
		return v
	}
	s := m.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.values[name]
	if !ok {
		v = create()
		s.values[name] = v
	}
	return v
}

// CompareAndDelete deletes a name if its value is old.
func (m *Map[V]) CompareAndDelete(name string, old V) {
	s := m.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.values[name] == old {
		s.values = shrink.Delete(s.values, name, &s.peak)
	}
}

// Values returns all values. The values of one shard are a consistent snapshot, those of different
// shards are not.
func (m *Map[V]) Values() []V {
	var all []V
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.RLock()
		for _, v := range s.values {
			all = append(all, v)
		}
		s.mu.RUnlock()
	}
	return all
}
