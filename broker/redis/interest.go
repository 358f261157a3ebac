package redis

import "sync"

// interests are the names of streams and subjects that this process is interested in.
type interests struct {
	mu  sync.Mutex
	all map[string]*interest
}

// interest is that in one name.
type interest struct {
	streams, listens int
	readers          map[string]bool // of a stream without a publication; nil if there are none
}

func newInterests() *interests { return &interests{all: map[string]*interest{}} }

// add changes the number of subscriptions and of listens. It reports false, and changes nothing, if
// one would become negative.
func (is *interests) add(name string, streams, listens int) bool {
	is.mu.Lock()
	defer is.mu.Unlock()
	i := is.all[name]
	if i == nil {
		i = &interest{}
	}
	if i.streams+streams < 0 || i.listens+listens < 0 {
		return false
	}
	i.streams += streams
	i.listens += listens
	if is.all[name] = i; i.streams == 0 {
		i.readers = nil
	}
	if i.streams == 0 && i.listens == 0 {
		delete(is.all, name)
	}
	return true
}

// in returns the numbers of subscriptions and of listens.
func (is *interests) in(name string) (streams, listens int) {
	is.mu.Lock()
	defer is.mu.Unlock()
	if i := is.all[name]; i != nil {
		return i.streams, i.listens
	}
	return 0, 0
}

// track notes a reader of a stream without a publication. It reports false if there is no
// subscription to the stream.
func (is *interests) track(stream, reader string) bool {
	is.mu.Lock()
	defer is.mu.Unlock()
	i := is.all[stream]
	if i == nil || i.streams == 0 {
		return false
	}
	if i.readers == nil {
		i.readers = map[string]bool{}
	}
	if len(i.readers) < 100 {
		i.readers[reader] = true
	}
	return true
}

// tracked returns the readers of a stream that have come before its first publication.
func (is *interests) tracked(stream string) (readers []string) {
	is.mu.Lock()
	defer is.mu.Unlock()
	if i := is.all[stream]; i != nil {
		for r := range i.readers {
			readers = append(readers, r)
		}
	}
	return readers
}

// forget forgets readers that the engine knows.
func (is *interests) forget(stream string, readers ...string) {
	is.mu.Lock()
	defer is.mu.Unlock()
	if i := is.all[stream]; i != nil {
		for _, r := range readers {
			delete(i.readers, r)
		}
	}
}
