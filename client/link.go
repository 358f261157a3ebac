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
	// writeTime is how long nothing of a frame that is being written may go.
	writeTime = 10 * time.Second
	// goodbyeTime is how long the closing handshake may take, and how long a socket that
	// cannot be written may still be read.
	goodbyeTime = time.Second
	// probeTime is how long a sign of life may take if there is reason to doubt the link.
	probeTime = 5 * time.Second
	// maxAnswers is how many answers to the server's calls wait to be written.
	maxAnswers = 256
)

// link is one connection.
type link struct {
	ws *websocket.Conn
	// socket is what ws reads and writes. Closing it ends ws.Close, which nothing else does.
	socket io.Closer
	// quiet is after how much silence the server is asked for a sign of life, 0 for never,
	// and patience how long that may take.
	quiet, patience time.Duration

	progress *progress

	answers chan frame
	doubts  chan struct{} // has an element when a sign of life is to be asked for at once
	began   time.Time
	heard   atomic.Int64 // the last sign of life, in nanoseconds after began
	alive   atomic.Bool  // there was one since the last question
	ctx     context.Context
	end     context.CancelCauseFunc // ends ctx; the first cause is how the link ended
}

// hears is called for each sign of life: bytes that come, and those of a large frame that go.
func (l *link) hears() {
	l.heard.Store(int64(time.Since(l.began)))
	l.alive.Store(true)
}

// said is called for each portion that goes.
func (l *link) said() {
	if l.progress.went() {
		l.hears()
	}
}

// doubt has the link watched closely: it ends soon if there is no sign of life.
func (l *link) doubt() {
	select {
	case l.doubts <- struct{}{}:
	default:
	}
}

// run reads, writes and watches until the link or ctx ends, and returns how it ended. If ctx ends,
// it still says what last returns.
func (l *link) run(ctx context.Context, q *requests, hear func(frame), last func() (frame, bool)) error {
	var work sync.WaitGroup
	work.Go(func() { l.read(hear) })
	work.Go(func() { l.write(q) })
	work.Go(l.watch)
	select {
	case <-l.ctx.Done():
		if context.Cause(l.ctx) == errBehind { // the server must not think that it broke down
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

// read hands on what comes until nothing does. hear must not block.
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

// listen gives the reader time to find a close frame, which says more about the end than that
// nothing can be written.
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

// offer is answer that does not wait: a server that calls and does not read gets no answers.
func (l *link) offer(f frame) {
	select {
	case l.answers <- f:
	default:
	}
}

// watch ends a link that is silent.
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
		case <-l.doubts: // more of them do not give it more time
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
		case l.quiet <= 0: // only doubts are a reason to ask
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

// goodbye closes the link as WebSocket wants it, with the server's answer, for a second at most.
// last, if not nil, returns what is said before, if anything is.
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

// endOf says how a link ended whose socket failed with err.
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
