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
	// writeTimeout is the time after which a write counts as stuck if no byte of the frame has
	// left.
	writeTimeout = 10 * time.Second
	// closeTimeout limits the closing handshake, and the time for which a socket that cannot be
	// written is still read.
	closeTimeout = time.Second
	// probeTimeout is the time for a sign of life if the connection may be dead.
	probeTimeout = 5 * time.Second
	// maxAnswers is the number of answers to calls of the server that wait to be written.
	maxAnswers = 256
)

// link is one connection.
type link struct {
	ws *websocket.Conn
	// socket is the socket below ws. Only closing it ends ws.Close early.
	socket io.Closer
	// pingInterval is the time of silence after which the client sends a ping; 0 or less means
	// never. pongTimeout is the time for a sign of life after that.
	pingInterval, pongTimeout time.Duration

	progress *writeProgress

	refreshing atomic.Bool // a token is being fetched for a refresh

	states         *stateFrames
	answers        chan frame
	probes         chan struct{} // has an element when a ping must be sent at once
	began          time.Time
	lastAlive      atomic.Int64 // time of the last sign of life, in nanoseconds after began
	aliveSincePing atomic.Bool  // there was a sign of life since the last ping
	ctx            context.Context
	end            context.CancelCauseFunc // ends ctx; the first cause is how the link ended
}

// noteAlive is called for each sign of life: bytes that were received, and progress of a large
// frame that is being written.
func (l *link) noteAlive() {
	l.lastAlive.Store(int64(time.Since(l.began)))
	l.aliveSincePing.Store(true)
}

// noteWrite is called for each successful write to the socket.
func (l *link) noteWrite() {
	if l.progress.noteWrite() {
		l.noteAlive()
	}
}

// probe sends a ping. The link ends if there is no sign of life within probeTimeout.
func (l *link) probe() {
	select {
	case l.probes <- struct{}{}:
	default:
	}
}

// run reads, writes and watches until the link or ctx ends, and returns how the link ended. If ctx
// ends, it writes the frame that finalFrame returns before it closes the link.
func (l *link) run(
	ctx context.Context, q *requests, receive func(frame), finalFrame func() (frame, bool),
) error {
	var work sync.WaitGroup
	work.Go(func() { l.read(receive) })
	work.Go(func() { l.write(q) })
	work.Go(l.watch)
	select {
	case <-l.ctx.Done():
		if context.Cause(l.ctx) == errSlowConsumer { // the server must not count it as a failure
			l.closeHandshake(realtime.CloseSlow, nil)
		}
	case <-ctx.Done():
		l.end(context.Cause(ctx))
		l.closeHandshake(realtime.CloseNormal, finalFrame)
	}
	l.closeNow()
	work.Wait()
	l.states.stop()
	return context.Cause(l.ctx)
}

// read passes received frames to receive until reading fails. receive must not block.
func (l *link) read(receive func(frame)) {
	for {
		kind, data, err := l.ws.Read(context.Background())
		if err != nil {
			l.end(closeErrorOf(err))
			return
		}
		receive(frame{kind == websocket.MessageBinary, data})
	}
}

// write writes answers, acknowledgements, and requests in their order.
func (l *link) write(q *requests) {
	for l.ctx.Err() == nil {
		var f frame
		ok := true
		select {
		case <-l.ctx.Done():
			return
		case f = <-l.answers:
		case <-l.states.due:
			f, ok = l.states.next()
		case <-q.ready:
			f, ok = q.next()
		}
		if ok && l.writeFrame(f) != nil {
			l.awaitCloseFrame()
			return
		}
	}
}

func (l *link) writeFrame(f frame) error {
	defer l.progress.begin()()
	kind := websocket.MessageText
	if f.binary {
		kind = websocket.MessageBinary
	}
	return l.ws.Write(context.Background(), kind, f.data)
}

// awaitCloseFrame gives the reader time to receive a close frame, which says more about the end
// than a write error.
func (l *link) awaitCloseFrame() {
	select {
	case <-l.ctx.Done():
	case <-time.After(closeTimeout):
		l.closeNow()
	}
}

// sendAnswer waits until f can be written or the link ends.
func (l *link) sendAnswer(f frame) {
	select {
	case l.answers <- f:
	case <-l.ctx.Done():
	}
}

// tryAnswer is sendAnswer without waiting. If the server sends calls and does not read, answers are
// dropped.
func (l *link) tryAnswer(f frame) {
	select {
	case l.answers <- f:
	default:
	}
}

// watch ends a silent link.
func (l *link) watch() {
	timer := time.NewTimer(l.pingInterval)
	defer timer.Stop()
	if l.pingInterval <= 0 {
		timer.Stop()
	}
	pinged, probing := false, false
	sendPing := func(timeout time.Duration) {
		pinged = true
		l.aliveSincePing.Store(false)
		l.tryAnswer(ping)
		timer.Reset(timeout)
	}
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-l.probes: // further probes do not extend the time
			if !probing || l.aliveSincePing.Load() {
				probing = true
				sendPing(probeTimeout)
			}
			continue
		case <-timer.C:
		}
		silence := time.Since(l.began) - time.Duration(l.lastAlive.Load())
		switch {
		case pinged && !l.aliveSincePing.Load():
			l.end(&realtime.CloseError{
				Cause: realtime.CauseTimeout, Code: realtime.CloseLost, Reason: "no sign of life",
			})
			return
		case l.pingInterval <= 0: // pings are sent by probe only
			pinged, probing = false, false
		case silence < l.pingInterval:
			pinged, probing = false, false
			timer.Reset(l.pingInterval - silence)
		default:
			probing = false
			sendPing(l.pongTimeout)
		}
	}
}

// closeHandshake performs the WebSocket closing handshake, for closeTimeout at most. finalFrame, if
// not nil, returns a frame to be written before it, if there is one.
func (l *link) closeHandshake(code realtime.CloseCode, finalFrame func() (frame, bool)) {
	deadline := time.AfterFunc(closeTimeout, func() { _ = l.socket.Close() })
	defer deadline.Stop()
	if finalFrame != nil {
		if f, ok := finalFrame(); ok {
			_ = l.writeFrame(f)
		}
	}
	_ = l.ws.Close(websocket.StatusCode(code), "")
}

// closeNow closes the link at once. It may be called again.
func (l *link) closeNow() {
	_ = l.ws.CloseNow()
}

// closeErrorOf returns how a link ended whose socket failed with err.
func closeErrorOf(err error) *realtime.CloseError {
	if e, ok := errors.AsType[websocket.CloseError](err); ok {
		return &realtime.CloseError{
			Cause: realtime.CauseServer, Code: realtime.CloseCode(e.Code), Reason: e.Reason,
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
