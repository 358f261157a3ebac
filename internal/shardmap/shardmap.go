// Package shardmap provides a map that many goroutines use at once.
package shardmap

import (
	"github.com/realtime-go/realtime/internal/shrink"

	"hash/maphash"
	"sync"
)

// numShards is a power of two, well above the number of cores that contend.
const numShards = 64

// shards is a map from names that many goroutines use at once, cut into parts with
// a lock each.
type Shards[V comparable] struct {
	seed  maphash.Seed
	parts [numShards]shard[V]
}

type shard[V comparable] struct {
	mu   sync.RWMutex
	m    map[string]V
	most int      // that m has held
	_    [24]byte // a lock to each cache line
}

func NewShards[V comparable]() *Shards[V] {
	s := &Shards[V]{seed: maphash.MakeSeed()}
	for i := range s.parts {
		s.parts[i].m = make(map[string]V)
	}
	return s
}

func (s *Shards[V]) of(name string) *shard[V] {
	return &s.parts[maphash.String(s.seed, name)&(numShards-1)]
}

func (s *Shards[V]) Get(name string) (V, bool) {
	p := s.of(name)
	p.mu.RLock()
	defer p.mu.RUnlock()
	v, ok := p.m[name]
	return v, ok
}

// getOrPut returns what is there, or puts what fresh returns. fresh must not block.
func (s *Shards[V]) GetOrPut(name string, fresh func() V) V {
	if v, ok := s.Get(name); ok {
		return v
	}
	p := s.of(name)
	p.mu.Lock()
	defer p.mu.Unlock()
	v, ok := p.m[name]
	if !ok {
		v = fresh()
		p.m[name] = v
	}
	return v
}

// drop removes name if it is still v.
func (s *Shards[V]) Drop(name string, v V) {
	p := s.of(name)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m[name] == v {
		p.m = shrink.Delete(p.m, name, &p.most)
	}
}

// snapshot returns all values, each shard's as of one moment.
func (s *Shards[V]) Snapshot() []V {
	var all []V
	for i := range s.parts {
		p := &s.parts[i]
		p.mu.RLock()
		for _, v := range p.m {
			all = append(all, v)
		}
		p.mu.RUnlock()
	}
	return all
}
