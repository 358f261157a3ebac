package session

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/realtime-go/realtime/internal/names"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/wire"
)

// ErrBacklog says that a client has sent so much for the handler that runs that its answer would
// not be read.
var ErrBacklog = errors.New("realtime: backlog full")

// ReplyError is the error with which a client answers a call.
type ReplyError wire.Error

func (e *ReplyError) Error() string { return e.Code + ": " + e.Message }

// pending are requests to the peer that have no answer yet, by number. The zero value is ready.
type pending struct {
	mu        sync.Mutex
	last      uint64
	waiting   map[uint64]chan response
	rejecting bool // the backlog is full and reading has stopped: requests fail with ErrBacklog
}

// response is an answer, or the error in place of one.
type response struct {
	content wire.Content
	err     error
}

// begin adds the next request. send is called with its number in the same critical section.
func (p *pending) begin(send func(number uint64)) (answered <-chan response, number uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last++
	send(p.last)
	if p.waiting == nil {
		p.waiting = make(map[uint64]chan response)
	}
	ch := make(chan response, 1)
	if p.rejecting {
		ch <- response{err: ErrBacklog}
	} else {
		p.waiting[p.last] = ch
	}
	return ch, p.last
}

func (p *pending) forget(number uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waiting, number)
}

// reject says whether the backlog is full, so that no answer would be read. If so, all requests end
// with ErrBacklog.
func (p *pending) reject(yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rejecting = yes; yes {
		for n := range p.waiting {
			p.settle(n, response{err: ErrBacklog})
		}
	}
}

// settle ends a request, and reports whether there was one. p.mu is held.
func (p *pending) settle(number uint64, r response) bool {
	ch, ok := p.waiting[number]
	if ok {
		ch <- r
		delete(p.waiting, number)
	}
	return ok
}

// wait waits for an answer until ctx or the session ends.
func (s *Session) wait(ctx context.Context, answered <-chan response) (wire.Content, error) {
	select {
	case r := <-answered:
		return r.content, r.err
	case <-ctx.Done():
		return wire.Content{}, context.Cause(ctx)
	case <-s.Context().Done():
		return wire.Content{}, context.Cause(s.Context())
	}
}

// Ping sends a ping and waits for its pong, until ctx or the session ends. It returns the time that
// took, or ErrBacklog.
func (s *Session) Ping(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	answered, number := s.pings.begin(s.queue)
	defer s.pings.forget(number)
	s.runner.handOver()
	if _, err := s.wait(ctx, answered); err != nil {
		return 0, err
	}
	return time.Since(start), nil
}

// Call calls send with the number of a request and waits for the answer with that number, until ctx
// or the session ends. It returns a *ReplyError, ErrBacklog or the cause of a context.
func (s *Session) Call(ctx context.Context, send func(number uint64)) (wire.Content, error) {
	answered, number := s.calls.begin(send)
	defer s.calls.forget(number)
	s.runner.handOver()
	return s.wait(ctx, answered)
}

// pings are the calls of Ping that wait for a pong.
type pings struct {
	pending
	heard   uint64 // the newest that was answered
	expects bool   // the pong of a heartbeat
}

// begin numbers and sends the next ping in one step: only the newest ping is sent, and its pong
// answers all before it.
func (p *pings) begin(q *sendqueue.Queue) (answered <-chan response, number uint64) {
	return p.pending.begin(func(number uint64) {
		q.Ping(sendqueue.NewFrame(sendqueue.OpPing, strconv.AppendUint(nil, number, 10)))
	})
}

// beat notes that a heartbeat was sent, whose payload is empty.
func (p *pings) beat() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.expects = true
}

// answer ends the wait for the ping that the pong answers and for all before it, because a peer may
// answer only the newest. It reports whether the pong answers a ping for the first time.
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

// calls are the calls to the peer that it has not answered. Their number is the id on the wire.
type calls struct{ pending }

// answer ends the wait for an answer. It reports false if no call waits for it.
func (cs *calls) answer(r *wire.Request) bool {
	number, err := strconv.ParseUint(string(r.ID), 10, 64)
	if err != nil {
		return false
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if r.Name == wire.FrameReply {
		content := wire.Content{JSON: bytes.Clone(r.Content), Binary: bytes.Clone(r.Binary)}
		return cs.settle(number, response{content: content})
	}
	said, err := wire.DecodeError(r.Content)
	if err != nil || !names.ValidCode(said.Code) {
		said = wire.Error{Code: wire.CodeInternal, Message: "no reason given"}
	}
	return cs.settle(number, response{err: (*ReplyError)(&said)})
}
