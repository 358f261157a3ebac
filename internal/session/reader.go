package session

import (
	"errors"
	"time"
	"unicode/utf8"

	"github.com/realtime-go/realtime/internal/disconnect"
	"github.com/realtime-go/realtime/internal/inbound"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/transport"
	"github.com/realtime-go/realtime/internal/wire"
)

// HalfMessage is about the memory of a session while a message is half read, in bytes, without what
// has arrived of it: a goroutine with its stack.
const HalfMessage = 8 << 10

// keptBuffer is the size up to which the buffer of a message is kept for the next one, in bytes.
const keptBuffer = 1 << 10

// reader reads the messages of a session. Its fields belong to the goroutine with the right to
// read.
type reader struct {
	s    *Session
	used allowance
	late int // bytes that arrived after the end
}

// Alive implements transport.Events.
func (r *reader) Alive(n int) {
	s := r.s
	s.alive()
	s.receivedBytes.Add(uint64(n))
	s.watch.arrived(n)
	if !s.Ended() {
		return
	}
	if r.late += n; r.late > transport.MaxAfterEnd { // the peer goes on sending: stop reading
		<-s.queue.Done()
	}
}

// Waiting implements transport.Events.
func (r *reader) Waiting(inside bool, held int) {
	now := r.s.now()
	r.s.reading.Store(int64(now))
	if !inside {
		r.messageEnded()
		r.s.watch.arm(lookInterval) // not only a handler precedes silence
		return
	}
	r.hold(HalfMessage + held)
	r.s.watch.messageBegan(now)
}

// messageEnded notes that no message or control frame is half read.
func (r *reader) messageEnded() {
	r.hold(0)
	r.s.watch.messageEnded()
}

// hold counts the memory of a message that is half read.
func (r *reader) hold(bytes int) {
	if n := int64(bytes) - r.s.held.Load(); n != 0 {
		r.s.held.Add(n)
		r.s.pool.Counters.Queues.Budget.Hold(n)
	}
}

// Wake implements transport.Events.
func (r *reader) Wake() {
	r.s.reading.Store(0)
	r.s.watch.parked.Store(false)
	r.s.runner.read(false)
}

// Ping implements transport.Events.
func (r *reader) Ping() bool {
	if r.used.ping(&r.s.pool.Limits, r.s.now()) {
		return true
	}
	r.s.Expel(disconnect.CauseRate, disconnect.ClosePolicy, "too many pings")
	return false
}

// Pong implements transport.Events. A pong that answers no ping counts as a ping.
func (r *reader) Pong(payload string) {
	if !r.s.pings.answer(payload) {
		r.Ping()
	}
}

// loop has the right to read, and reads until the session ends or the right is gone. With stay
// false it parks in place of waiting, until a message has arrived.
func (r *reader) loop(stay bool) {
	var buf []byte
	for r.next(&buf, &stay) {
	}
	r.s.runner.leave()
}

// next reads one message and deals with it. It reports false when the right to read is gone.
func (r *reader) next(buf *[]byte, stay *bool) bool {
	s := r.s
	s.queue.WaitReplies()
	op, data, err := s.transport.Next((*buf)[:0], *stay)
	if s.reading.Load() != 0 { // it has waited, perhaps inside a control frame
		s.reading.Store(0)
		r.messageEnded()
	}
	if errors.Is(err, inbound.ErrQuiet) {
		*stay = true // if it cannot be parked
		return !r.park()
	}
	if err != nil {
		r.finish(err.(*disconnect.CloseError))
		return false
	}
	now := time.Now() // and no more readings of the clock for this message
	*stay = true
	*buf = data
	if cap(data) > keptBuffer { // one large message must not cost memory for ever
		*buf = nil
	}
	cmd, ok := r.accept(op, data, now)
	if ok && cmd.Kind == wire.CmdPing { // a client takes silence while a handler runs for a loss
		s.handler.Ping()
		return true
	}
	if ok && cmd.Kind == wire.CmdSeen { // nor may a handler hold up what is current
		s.handler.Seen(cmd.Req.Offset)
		return true
	}
	if !ok || !s.runner.offer(&cmd) {
		return true
	}
	return s.runner.work(cmd)
}

// park gives the right to read to the transport, if that takes it.
func (r *reader) park() bool {
	r.s.reading.Store(int64(r.s.now()))
	r.s.watch.parked.Store(true)
	if r.s.transport.Park() {
		return true
	}
	r.s.watch.parked.Store(false)
	return false
}

// finish deals with the end of the input.
func (r *reader) finish(why *disconnect.CloseError) {
	s := r.s
	s.End(why, transport.CloseGrace)
	if why.Cause != disconnect.CauseLost {
		s.queue.HeardAll()
		s.transport.Discard()
	}
	s.queue.ReadEnded()
}

// accept checks and decodes a message, and waits as long as its rate demands. It reports whether
// there is a command to run. The answer to a call is given to the caller at once, because a handler
// may wait for it, and is free, because the server has asked for it.
func (r *reader) accept(op sendqueue.Op, data []byte, now time.Time) (wire.Command, bool) {
	s := r.s
	s.received.Add(1)
	s.counters.Add(metrics.Received, 1)
	if op == sendqueue.OpText && !utf8.Valid(data) {
		s.Expel(disconnect.CauseProtocol, disconnect.CloseText, "text is not UTF-8")
		return wire.Command{}, false
	}
	cmd := s.protocol.Decode(op, data)
	if cmd.Kind == wire.CmdAnswer && s.calls.answer(cmd.Req) {
		return wire.Command{}, false
	}
	if cmd.Kind == wire.CmdNone || cmd.Kind == wire.CmdAnswer {
		s.counters.Add(metrics.Ignored, 1)
		r.throttle(len(data), &now)
		return wire.Command{}, false
	}
	ok := r.throttle(len(data), &now)
	cmd.At = now
	return cmd, ok
}

// throttle waits until the limits allow what the client has sent, and then sets now.
func (r *reader) throttle(n int, now *time.Time) bool {
	s := r.s
	wait, tooLong := r.used.message(&s.pool.Limits, n, &s.bill, s.since(*now))
	if wait == 0 {
		return true
	}
	s.counters.Add(metrics.Throttled, 1)
	if tooLong {
		s.Expel(disconnect.CauseRate, disconnect.CloseRate, "sent too much")
		return false
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		*now = time.Now()
		if !s.transport.Ahead() { // nothing more has arrived: the client waits
			r.used.rested()
		}
		return true
	case <-s.Context().Done():
		return false
	}
}
