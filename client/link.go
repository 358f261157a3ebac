package client

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/realtime-go/realtime"
)

const (

	// writeTime is the time after which a write counts as stuck if no byte of the frame has left.
	writeTime = 10 * time.Second
	// goodbyeTime limits the closing handshake, and the time for which a socket that cannot be
	// written is still read.
	goodbyeTime = time.Second
	// probeTime is the time for a sign of life if the connection may be dead.
	probeTime = 5 * time.Second
	// maxAnswers is the number of answers to calls of the server that wait to be written.
	maxAnswers = 256
)

// link is one connection.
type link struct {
	ws *websocket.Conn
	// socket is the socket below ws. Only closing it ends ws.Close early.
	socket io.Closer
	// quiet is the time of silence after which the client sends a ping; 0 or less means never.
	// patience is the time for a sign of life after that.
	quiet, patience time.Duration

	progress *progress

	answers chan frame
	doubts  chan struct{} // has an element when a ping must be sent at once
	began   time.Time
	heard   atomic.Int64 // time of the last sign of life, in nanoseconds after began
	alive   atomic.Bool  // there was a sign of life since the last ping
	ctx     context.Context
	end     context.CancelCauseFunc // ends ctx; the first cause is how the link ended
}

// hears is called for each sign of life: bytes that were received, and progress of a large frame
// that is being written.
func (l *link) hears() {
	l.heard.Store(int64(time.Since(l.began)))
	l.alive.Store(true)
}

// said is called for each successful write to the socket.
func (l *link) said() {
	if l.progress.went() {
		l.hears()
	}
}

// doubt sends a ping. The link ends if there is no sign of life within probeTime.
func (l *link) doubt() {
	select {
	case l.doubts <- struct{}{}:
	default:
	}
}

// run reads, writes and watches until the link or ctx ends, and returns how the link ended. If ctx
// ends, it writes the frame that last returns before it closes the link.
func (l *link) run(ctx context.Context, q *requests, hear func(frame), last func() (frame, bool)) error {
	var work sync.WaitGroup
	work.Go(func() { l.read(hear) })
	work.Go(func() { l.write(q) })
	work.Go(l.watch)
	select {
	case <-l.ctx.Done():
		if context.Cause(l.ctx) == errBehind { // the server must not count it as a failure
			l.goodbye(realtime.CloseSlow, nil)
		}
	case <-ctx.Done():
		l.end(context.Cause(ctx))
		l.goodbye(realtime.CloseNormal, last)
	}
	l.drop()
	work.Wait()
	return context.Cause(l.ctx)
}

// read passes received frames to hear until reading fails. hear must not block.
func (l *link) read(hear func(frame)) {
	for {
		kind, data, err := l.ws.Read(context.Background())
		if err != nil {
			l.end(endOf(err))
			return
		}
		hear(frame{kind == websocket.MessageBinary, data})
	}
}

// write writes answers, and requests in their order.
func (l *link) write(q *requests) {
	for l.ctx.Err() == nil {
		var f frame
		select {
		case <-l.ctx.Done():
			return
		case f = <-l.answers:
		case <-q.ready:
			var ok bool
			if f, ok = q.take(); !ok {
				continue
			}
		}
		if l.put(f) != nil {
			l.listen()
			return
		}
	}
}

func (l *link) put(f frame) error {
	defer l.progress.begin()()
	kind := websocket.MessageText
	if f.binary {
		kind = websocket.MessageBinary
	}
	return l.ws.Write(context.Background(), kind, f.data)
}

// listen gives the reader time to receive a close frame, which says more about the end than a write
// error.
func (l *link) listen() {
	select {
	case <-l.ctx.Done():
	case <-time.After(goodbyeTime):
		l.drop()
	}
}

// answer waits until f can be written or the link ends.
func (l *link) answer(f frame) {
	select {
	case l.answers <- f:
	case <-l.ctx.Done():
	}
}

// offer is answer without waiting. If the server sends calls and does not read, answers are
// dropped.
func (l *link) offer(f frame) {
	select {
	case l.answers <- f:
	default:
	}
}

// watch ends a silent link.
func (l *link) watch() {
	timer := time.NewTimer(l.quiet)
	defer timer.Stop()
	if l.quiet <= 0 {
		timer.Stop()
	}
	asked, probing := false, false
	ask := func(patience time.Duration) {
		asked = true
		l.alive.Store(false)
		l.offer(ping)
		timer.Reset(patience)
	}
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-l.doubts: // further doubts do not extend the time
			if !probing || l.alive.Load() {
				probing = true
				ask(probeTime)
			}
			continue
		case <-timer.C:
		}
		silence := time.Since(l.began) - time.Duration(l.heard.Load())
		switch {
		case asked && !l.alive.Load():
			l.end(&realtime.CloseError{
				Cause: realtime.CauseTimeout, Code: realtime.CloseLost, Reason: "no sign of life",
			})
			return
		case l.quiet <= 0: // pings are sent in doubt only
			asked, probing = false, false
		case silence < l.quiet:
			asked, probing = false, false
			timer.Reset(l.quiet - silence)
		default:
			probing = false
			ask(l.patience)
		}
	}
}

// goodbye performs the WebSocket closing handshake, for one second at most. last, if not nil,
// returns a frame to be written before it, if there is one.
func (l *link) goodbye(code realtime.CloseCode, last func() (frame, bool)) {
	late := time.AfterFunc(goodbyeTime, func() { _ = l.socket.Close() })
	defer late.Stop()
	if last != nil {
		if f, ok := last(); ok {
			_ = l.put(f)
		}
	}
	_ = l.ws.Close(websocket.StatusCode(code), "")
}

// drop closes the link at once. It may be called again.
func (l *link) drop() {
	_ = l.ws.CloseNow()
}

// endOf returns how a link ended whose socket failed with err.
func endOf(err error) *realtime.CloseError {
	if said, ok := errors.AsType[websocket.CloseError](err); ok {
		return &realtime.CloseError{
			Cause: realtime.CauseServer, Code: realtime.CloseCode(said.Code), Reason: said.Reason,
		}
	}
	if errors.Is(err, websocket.ErrMessageTooBig) {
		return &realtime.CloseError{
			Cause: realtime.CauseProtocol, Code: realtime.CloseTooBig,
			Reason: "message larger than DialOptions.MaxMessageBytes", Err: err,
		}
	}
	return &realtime.CloseError{Cause: realtime.CauseLost, Code: realtime.CloseLost, Err: err}
}
