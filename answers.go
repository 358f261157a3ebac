package realtime

import (
	"bytes"
	"encoding/json"
	"strconv"
	"sync"

	"github.com/realtime-go/realtime/internal/engine"
)

// pings are the calls of Ping that wait for a pong. The zero value is ready.
type pings struct {
	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan error
	deaf    bool // nothing can be answered
}

// begin sends the next ping. It is numbered and sent in one step: only the newest goes
// out, and its answer has to answer all before it.
func (p *pings) begin(l *engine.Link) (answered <-chan error, number uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last++
	l.Ping(engine.NewFrame(engine.OpPing, strconv.AppendUint(nil, p.last, 10)))
	if p.waiting == nil {
		p.waiting = make(map[uint64]chan error)
	}
	ch := make(chan error, 1)
	if p.deaf {
		ch <- ErrBacklog
	} else {
		p.waiting[p.last] = ch
	}
	return ch, p.last
}

func (p *pings) forget(number uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waiting, number)
}

// deafen says whether anything can be answered. If not, who waits is told.
func (p *pings) deafen(yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.deaf = yes; !yes {
		return
	}
	for n, ch := range p.waiting {
		ch <- ErrBacklog
		delete(p.waiting, n)
	}
}

// answer ends the wait for the ping that the pong answers and for all before it: a
// peer may answer only the newest.
func (p *pings) answer(payload string) {
	number, err := strconv.ParseUint(payload, 10, 64)
	if err != nil {
		return // the answer to a heartbeat, or unasked for
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for n, ch := range p.waiting {
		if n <= number {
			close(ch)
			delete(p.waiting, n)
		}
	}
}

// calls are the calls of the peer that wait for its answer. The zero value is ready.
type calls struct {
	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan response
	deaf    bool // nothing can be answered
}

// response is what a peer says to a call.
type response struct {
	content json.RawMessage
	err     error
}

// begin notes a call, whose number is its id on the wire.
func (cs *calls) begin() (answered <-chan response, number uint64) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.last++
	if cs.waiting == nil {
		cs.waiting = make(map[uint64]chan response)
	}
	ch := make(chan response, 1)
	if cs.deaf {
		ch <- response{err: ErrBacklog}
	} else {
		cs.waiting[cs.last] = ch
	}
	return ch, cs.last
}

// deafen says whether anything can be answered. If not, who waits is told.
func (cs *calls) deafen(yes bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.deaf = yes; !yes {
		return
	}
	for n, ch := range cs.waiting {
		ch <- response{err: ErrBacklog}
		delete(cs.waiting, n)
	}
}

func (cs *calls) forget(number uint64) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	delete(cs.waiting, number)
}

// answer ends the wait for an answer. It reports false if nobody waits for it.
func (cs *calls) answer(r *request) bool {
	number, err := strconv.ParseUint(string(r.id), 10, 64)
	if err != nil {
		return false
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	ch, ok := cs.waiting[number]
	if !ok {
		return false
	}
	delete(cs.waiting, number)
	if r.name == "reply" {
		ch <- response{content: bytes.Clone(r.content)}
		return true
	}
	e := &ClientError{Code: codeInternal, Message: "no reason given"}
	var said struct{ Code, Message string }
	if json.Unmarshal(r.content, &said) == nil && validCode(said.Code) {
		e = &ClientError{Code: said.Code, Message: said.Message}
	}
	ch <- response{err: e}
	return true
}
