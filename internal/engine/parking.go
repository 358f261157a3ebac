package engine

import (
	"sync"
	"sync/atomic"
)

// parking is where connections wait for input that have nobody who reads them. A
// goroutine for each would cost some kilobytes of stack while nothing happens.
//
// Every wait has a number of its own, so an event that comes late, for a connection that
// has ended or for a descriptor that belongs to another one by now, wakes nobody.
type parking struct {
	start func(func())
	sys   pollCalls

	once   sync.Once
	poller *poller // nil if there is none
	broken atomic.Bool

	mu    sync.Mutex
	last  uint64
	spots map[uint64]*Intake
}

func newParking(start func(func())) *parking {
	return &parking{start: start, sys: sysPoll, spots: make(map[uint64]*Intake)}
}

// works reports whether anything can be parked, as far as is known.
func (p *parking) works() bool { return canPoll && !p.broken.Load() }

// park waits for input on behalf of in.
func (p *parking) park(in *Intake) bool {
	if !p.works() {
		return false
	}
	p.once.Do(p.open)
	if p.poller == nil {
		return false
	}
	p.mu.Lock()
	p.last++
	in.token = p.last
	p.spots[in.token] = in
	p.mu.Unlock()
	token, known := in.token, in.known
	in.known = true
	if p.poller.watch(in.raw, token, known) != nil {
		if p.take(token) == nil {
			return true // a poller that broke has woken it
		}
		in.known = known
		return false
	}
	// From here on somebody else may have been woken and read.
	if p.broken.Load() { // and may not have seen this one
		p.wakeAll()
	}
	return true
}

// open starts the poller, unless close came first.
func (p *parking) open() {
	poller, err := newPoller(p.sys)
	if err != nil {
		p.broken.Store(true)
		return
	}
	p.poller = poller
	p.start(func() { p.serve(poller) })
}

// serve wakes those for whom there is something, until the poller ends.
func (p *parking) serve(poller *poller) {
	poller.run(func(token uint64) {
		if in := p.take(token); in != nil {
			in.ears.Wake()
		}
	})
	p.broken.Store(true)
	p.wakeAll()
}

// take removes the one who waits under this number, if anybody still does.
func (p *parking) take(token uint64) *Intake {
	p.mu.Lock()
	defer p.mu.Unlock()
	in := p.spots[token]
	delete(p.spots, token)
	return in
}

// wakeAll wakes everybody, because nobody else will.
func (p *parking) wakeAll() {
	p.mu.Lock()
	spots := p.spots
	p.spots = make(map[uint64]*Intake)
	p.mu.Unlock()
	for _, in := range spots {
		in.ears.Wake()
	}
}

// forget makes sure that in is not woken any more, unless it is being woken now.
func (p *parking) forget(in *Intake) { p.take(in.token) }

func (p *parking) close() {
	p.once.Do(func() { p.broken.Store(true) })
	if p.poller != nil {
		p.poller.close()
	}
}
