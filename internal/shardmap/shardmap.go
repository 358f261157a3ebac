// Package shardmap provides a map from names to values that many goroutines use at once.
package shardmap

import (
	"hash/maphash"
	"sync"

	"github.com/realtime-go/realtime/internal/shrink"
)

// numShards is a power of two, well above the number of cores that contend.
const numShards = 64

// Map is a map in parts, each with a lock of its own. Make one with [New].
type Map[V comparable] struct {
	seed   maphash.Seed
	shards [numShards]shard[V]
}

type shard[V comparable] struct {
	mu     sync.RWMutex
	values map[string]V
	peak   int      // see shrink.Delete
	_      [24]byte // one lock to a cache line
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

// Get returns the value of a name and whether there is one.
func (m *Map[V]) Get(name string) (V, bool) {
	s := m.shard(name)
	s.mu.RLock()
	defer s.mu.RUnlock()
	v, ok := s.values[name]
	return v, ok
}

// GetOrPut returns the value of a name. If there is none, it stores the result of create, which
// must not block: it runs under a lock.
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

// CompareAndDelete deletes name if its value is old.
func (m *Map[V]) CompareAndDelete(name string, old V) {
	s := m.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.values[name] == old {
		s.values = shrink.Delete(s.values, name, &s.peak)
	}
}

// Values returns all values. Those of one shard are as of one moment, those of different shards
// need not be.
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
