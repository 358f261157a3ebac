package inbound

import (
	"sync"
	"sync/atomic"
)

// parking holds the connections that wait for input and that no goroutine reads. A goroutine for
// each of them would use some kilobytes of stack while nothing happens.
//
// Each wait has its own token. Therefore a late event, for a connection that has ended or for a
// descriptor that has been reused, wakes no other connection.
type parking struct {
	start func(func())
	sys   pollCalls

	once   sync.Once
	poller *poller // nil if there is none
	broken atomic.Bool

	mu    sync.Mutex
	slots []slot
	free  []uint32 // indices of slots
}

// slot holds one parked connection. Its token consists of the index and the generation.
type slot struct {
	in         *Intake // nil if the slot is free
	generation uint32
}

// token returns the token of the slot with this index.
func (s *slot) token(index int) uint64 { return uint64(s.generation)<<32 | uint64(index) }

func newParking(start func(func())) *parking { return &parking{start: start, sys: sysPoll} }

// available reports whether connections can be parked, as far as is known.
func (p *parking) available() bool { return canPoll && !p.broken.Load() }

// park waits for input on in. It reports false if in cannot be parked.
func (p *parking) park(in *Intake) bool {
	if !p.available() {
		return false
	}
	p.once.Do(p.open)
	if p.poller == nil {
		return false
	}
	token, known := p.put(in), in.registered
	in.registered = true
	if p.poller.watch(in.raw, token, known) != nil {
		if p.take(token) == nil {
			return true // a broken poller has woken it
		}
		in.registered = known
		return false
	}
	// From here on, another goroutine may have been woken and be reading.
	if p.broken.Load() { // serve may have missed this connection
		p.wakeAll()
	}
	return true
}

// open starts the poller, unless close was called before.
func (p *parking) open() {
	poller, err := newPoller(p.sys)
	if err != nil {
		p.broken.Store(true)
		return
	}
	p.poller = poller
	p.start(func() { p.serve(poller) })
}

// serve wakes connections with input until the poller ends, and then all others.
func (p *parking) serve(poller *poller) {
	poller.run(p.wake)
	p.broken.Store(true)
	p.wakeAll()
}

// put stores in and returns its token.
func (p *parking) put(in *Intake) (token uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) == 0 {
		p.free = append(p.free, uint32(len(p.slots)))
		p.slots = append(p.slots, slot{})
	}
	i := p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	s := &p.slots[i]
	s.in = in
	s.generation++ // so that 0 is not a token
	in.token = s.token(int(i))
	return in.token
}

// take removes and returns the connection with this token, or returns nil if it is not parked.
func (p *parking) take(token uint64) *Intake {
	p.mu.Lock()
	defer p.mu.Unlock()
	i, generation := uint32(token), uint32(token>>32)
	if int(i) >= len(p.slots) || p.slots[i].in == nil || p.slots[i].generation != generation {
		return nil
	}
	in := p.slots[i].in
	p.slots[i].in = nil
	p.free = append(p.free, i)
	return in
}

// wakeAll wakes all connections, when the poller has ended.
func (p *parking) wakeAll() {
	p.mu.Lock()
	tokens := make([]uint64, len(p.slots))
	for i := range p.slots {
		tokens[i] = p.slots[i].token(i)
	}
	p.mu.Unlock()
	for _, token := range tokens {
		p.wake(token)
	}
}

// wake wakes the connection with this token, if it is parked.
func (p *parking) wake(token uint64) {
	if in := p.take(token); in != nil {
		in.listener.Wake()
	}
}

// cancel prevents in from being woken, unless it is being woken now.
func (p *parking) cancel(in *Intake) { p.take(in.token) }

func (p *parking) close() {
	p.once.Do(func() { p.broken.Store(true) })
	if p.poller != nil {
		p.poller.close()
	}
}
