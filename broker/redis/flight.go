package redis

import "sync"

// flights are the publications for whose answers Publish waits. Their copies may arrive in a
// channel before: then Publish delivers them, so that the parts of one message are delivered in
// their order.
type flights struct {
	mu   sync.Mutex
	last uint64
	all  map[uint64]*flight
}

// flight is one of them.
type flight struct {
	origin  any
	arrived *envelope // the copy
}

func newFlights() *flights { return &flights{all: map[uint64]*flight{}} }

// begin returns the number of a publication.
func (fs *flights) begin(origin any) uint64 {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.last++
	fs.all[fs.last] = &flight{origin: origin}
	return fs.last
}

// end returns the copy that has arrived, if any.
func (fs *flights) end(number uint64) (arrived *envelope) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f := fs.all[number]
	delete(fs.all, number)
	if f == nil {
		return nil
	}
	return f.arrived
}

// arrive leaves a copy to Publish. It reports false if Publish does not wait for it.
func (fs *flights) arrive(e *envelope) bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f := fs.all[e.record.call]
	if f != nil {
		f.arrived = e
	}
	return f != nil
}

// origin returns the Origin of a publication for which Publish waits.
func (fs *flights) origin(number uint64) any {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f := fs.all[number]; f != nil {
		return f.origin
	}
	return nil
}
