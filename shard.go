package realtime

import (
	"hash/maphash"
	"sync"
)

// numShards is a power of two, well above the number of cores that contend.
const numShards = 64

// shards is a map from names that many goroutines use at once, cut into parts with
// a lock each.
type shards[V comparable] struct {
	seed  maphash.Seed
	parts [numShards]shard[V]
}

type shard[V comparable] struct {
	mu   sync.RWMutex
	m    map[string]V
	most int      // that m has held
	_    [24]byte // a lock to each cache line
}

func newShards[V comparable]() *shards[V] {
	s := &shards[V]{seed: maphash.MakeSeed()}
	for i := range s.parts {
		s.parts[i].m = make(map[string]V)
	}
	return s
}

func (s *shards[V]) of(name string) *shard[V] {
	return &s.parts[maphash.String(s.seed, name)&(numShards-1)]
}

func (s *shards[V]) get(name string) (V, bool) {
	p := s.of(name)
	p.mu.RLock()
	defer p.mu.RUnlock()
	v, ok := p.m[name]
	return v, ok
}

// getOrPut returns what is there, or puts what fresh returns. fresh must not block.
func (s *shards[V]) getOrPut(name string, fresh func() V) V {
	if v, ok := s.get(name); ok {
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
func (s *shards[V]) drop(name string, v V) {
	p := s.of(name)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m[name] == v {
		p.m = without(p.m, name, &p.most)
	}
}

// roomy is up to how large a map or slice stays that was once larger.
const roomy = 64

// without deletes a key. A Go map never shrinks, so one of which a quarter is left makes way
// for a smaller one: a crowd that has left must not cost memory for ever. most is what it
// remembers for that.
func without[K comparable, V any](m map[K]V, key K, most *int) map[K]V {
	*most = max(*most, len(m))
	delete(m, key)
	if *most <= roomy || len(m) > *most/4 {
		return m
	}
	*most = len(m)
	return only(m, func(V) bool { return true })
}

// only returns the entries of m that are to be kept, in a map of their size.
func only[K comparable, V any](m map[K]V, keep func(V) bool) map[K]V {
	kept := make(map[K]V)
	for k, v := range m {
		if keep(v) {
			kept[k] = v
		}
	}
	return kept
}

// shorter returns s without its last element, which it clears, in less memory if most of it
// is free.
func shorter[T any](s []T) []T {
	var zero T
	s[len(s)-1] = zero
	s = s[:len(s)-1]
	if cap(s) > roomy && len(s) < cap(s)/4 {
		s = append(make([]T, 0, 2*len(s)), s...)
	}
	return s
}

// snapshot returns all values, each shard's as of one moment.
func (s *shards[V]) snapshot() []V {
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
