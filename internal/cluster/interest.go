package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/realtime-go/realtime/internal/shrink"
	"github.com/realtime-go/realtime/internal/timerwheel"
)

// idle is how long a node listens to a subject after the last Leave.
const idle = 30 * time.Second

// interest are the subjects to which a node listens.
type interest struct {
	bus   Bus
	wheel *timerwheel.Wheel
	ctx   context.Context // ends when the node closes

	mu   sync.Mutex
	all  map[string]*Subject
	peak int // of all, see shrink.Delete
}

// Subject is a subject to which a node listens while somebody is interested in it.
type Subject struct {
	of   *interest
	name string

	ready chan struct{} // closed when Listen has returned
	uses  int           // guarded by of.mu, like timer
	timer timerwheel.Timer
}

// enter begins interest in a subject. It does not block.
func (i *interest) enter(name string) *Subject {
	i.mu.Lock()
	defer i.mu.Unlock()
	s := i.all[name]
	if s == nil {
		s = &Subject{of: i, name: name, ready: make(chan struct{})}
		s.timer.Fire = func() { i.bus.Go(s.expire) }
		i.all[name] = s
		i.bus.Go(s.listen)
	}
	i.wheel.Stop(&s.timer)
	s.uses++
	return s
}

// listen waits for the engine. A broker that fails to listen does so as soon as it can, so an error
// changes nothing.
func (s *Subject) listen() {
	defer close(s.ready)
	_ = s.of.bus.Listen(context.Background(), s.name) // is bounded
}

// Wait waits until what others send arrives, or the engine cannot be reached, or ctx ends. A nil
// Subject does nothing.
func (s *Subject) Wait(ctx context.Context) {
	if s == nil {
		return
	}
	select {
	case <-s.ready:
	case <-ctx.Done():
	case <-s.of.ctx.Done():
	}
}

// Leave ends what Enter began. It does not block. A nil Subject does nothing.
func (s *Subject) Leave() {
	if s == nil {
		return
	}
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if s.uses--; s.uses == 0 {
		s.of.wheel.Set(&s.timer, idle)
	}
}

// expire ends the interest, unless somebody has become interested again.
func (s *Subject) expire() {
	<-s.ready
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if s.uses > 0 || s.of.all[s.name] != s {
		return
	}
	s.of.all = shrink.Delete(s.of.all, s.name, &s.of.peak)
	s.of.bus.Unlisten(s.name)
}
