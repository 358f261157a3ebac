package realtime

import (
	"bytes"
	"encoding/json"
	"strconv"
	"sync"

	"github.com/realtime-go/realtime/internal/names"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/wire"
)

// questions are what the peer was asked and has not answered yet, by number. The zero value
// is ready.
type questions struct {
	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan response
	deaf    bool // nothing can be answered
}

// response is what a peer says, or why it does not.
type response struct {
	content json.RawMessage
	err     error
}

// begin notes the next question. ask is called with its number, in the same step.
func (q *questions) begin(ask func(number uint64)) (answered <-chan response, number uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last++
	ask(q.last)
	if q.waiting == nil {
		q.waiting = make(map[uint64]chan response)
	}
	ch := make(chan response, 1)
	if q.deaf {
		ch <- response{err: ErrBacklog}
	} else {
		q.waiting[q.last] = ch
	}
	return ch, q.last
}

func (q *questions) forget(number uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.waiting, number)
}

// deafen says whether anything can be answered. If not, who waits is told.
func (q *questions) deafen(yes bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.deaf = yes; yes {
		for n := range q.waiting {
			q.settle(n, response{err: ErrBacklog})
		}
	}
}

// settle ends the wait for an answer, and reports whether anybody waits. q.mu is held.
func (q *questions) settle(number uint64, r response) bool {
	ch, ok := q.waiting[number]
	if ok {
		ch <- r
		delete(q.waiting, number)
	}
	return ok
}

// pings are the calls of Ping that wait for a pong.
type pings struct {
	questions
	heard   uint64 // the newest that was answered
	expects bool   // the answer to a heartbeat
}

// begin sends the next ping. It is numbered and sent in one step: only the newest goes
// out, and its answer has to answer all before it.
func (p *pings) begin(l *sendqueue.Queue) (answered <-chan response, number uint64) {
	return p.questions.begin(func(number uint64) {
		l.Ping(sendqueue.NewFrame(sendqueue.OpPing, strconv.AppendUint(nil, number, 10)))
	})
}

// beat notes that a heartbeat has been sent, whose payload is empty.
func (p *pings) beat() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expects = true
}

// answer ends the wait for the ping that the pong answers and for all before it: a
// peer may answer only the newest. It reports whether the pong answers a ping at all, for the
// first time.
func (p *pings) answer(payload string) (asked bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if payload == "" {
		asked, p.expects = p.expects, false
		return asked
	}
	number, err := strconv.ParseUint(payload, 10, 64)
	if err != nil || number <= p.heard || number > p.last {
		return false
	}
	p.heard = number
	for n := range p.waiting {
		if n <= number {
			p.settle(n, response{})
		}
	}
	return true
}

// calls are the calls of the peer that wait for its answer. Their number is the id on the wire.
type calls struct{ questions }

// answer ends the wait for an answer. It reports false if nobody waits for it.
func (cs *calls) answer(r *wire.Request) bool {
	number, err := strconv.ParseUint(string(r.ID), 10, 64)
	if err != nil {
		return false
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if r.Name == "reply" {
		return cs.settle(number, response{content: bytes.Clone(r.Content)})
	}
	e := &ClientError{Code: wire.CodeInternal, Message: "no reason given"}
	var said struct{ Code, Message string }
	if json.Unmarshal(r.Content, &said) == nil && names.ValidCode(said.Code) {
		e = &ClientError{Code: said.Code, Message: said.Message}
	}
	return cs.settle(number, response{err: e})
}
