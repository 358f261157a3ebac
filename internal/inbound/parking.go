package inbound

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
	spots []spot
	free  []uint32 // indices of spots
}

// spot is a place for one who waits. Its number is the index and, above that, the turn.
type spot struct {
	in   *Intake // nil if it is free
	turn uint32
}

// number returns the number of the spot with this index.
func (s *spot) number(index int) uint64 { return uint64(s.turn)<<32 | uint64(index) }

func newParking(start func(func())) *parking { return &parking{start: start, sys: sysPoll} }

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
	token, known := p.put(in), in.known
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
	poller.run(p.wake)
	p.broken.Store(true)
	p.wakeAll()
}

// put gives in a spot and returns its number.
func (p *parking) put(in *Intake) (token uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) == 0 {
		p.free = append(p.free, uint32(len(p.spots)))
		p.spots = append(p.spots, spot{})
	}
	i := p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	s := &p.spots[i]
	s.in = in
	s.turn++ // so 0 is nobody's number
	in.token = s.number(int(i))
	return in.token
}

// take removes the one who waits under this number, if anybody still does.
func (p *parking) take(token uint64) *Intake {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, turn := uint32(token), uint32(token>>32)
	if int(i) >= len(p.spots) || p.spots[i].in == nil || p.spots[i].turn != turn {
		return nil
	}
	in := p.spots[i].in
	p.spots[i].in = nil
	p.free = append(p.free, i)
	return in
}

// wakeAll wakes everybody, because nobody else will.
func (p *parking) wakeAll() {
	p.mu.Lock()
	tokens := make([]uint64, len(p.spots))
	for i := range p.spots {
		tokens[i] = p.spots[i].number(i)
	}
	p.mu.Unlock()
	for _, token := range tokens {
		p.wake(token)
	}
}

// wake wakes the one who waits under this number, if anybody still does.
func (p *parking) wake(token uint64) {
	if in := p.take(token); in != nil {
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
