package transport

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/realtime-go/realtime/internal/disconnect"
	"github.com/realtime-go/realtime/internal/inbound"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/wire"
)

// pipeBuffer is how many bytes each direction of a pipe holds before its writer waits.
const pipeBuffer = 64 << 10

// Pipe returns the two ends of a connection in memory. It behaves like a WebSocket whose client
// answers pings while it reads. The client speaks realtime.v1 if that is among the subprotocols.
func Pipe(subprotocols ...string) (Transport, *PipeClient) {
	p := &pipe{down: newLane(), up: newLane()}
	if slices.Contains(subprotocols, wire.V1) {
		p.proto = wire.ProtoV1
	}
	return p, &PipeClient{p: p}
}

// pipe is the server's end.
type pipe struct {
	proto      wire.Protocol
	down, up   *lane
	events     Events
	queue      *sendqueue.Queue
	maxMessage int
}

// RemoteAddr returns "pipe".
func (p *pipe) RemoteAddr() string { return "pipe" }

func (p *pipe) Protocol() wire.Protocol { return p.proto }

func (p *pipe) Deflates() bool { return false }

func (p *pipe) Wire() sendqueue.Wire { return p }

func (p *pipe) Attach(q *sendqueue.Queue, e Events, maxMessage int) {
	p.queue, p.events, p.maxMessage = q, e, maxMessage
}

func (p *pipe) Ahead() bool { return p.up.waits() }

func (p *pipe) Unseen() int { return 0 }

func (p *pipe) Interrupt() bool {
	p.up.interrupt()
	return true
}

func (p *pipe) Park() bool {
	p.up.whenReady(p.events.Wake)
	return true
}

func (p *pipe) Discard() {}

func (p *pipe) Release() {}

func (p *pipe) Next(buf []byte, wait bool) (sendqueue.Op, []byte, error) {
	for {
		if !p.up.waits() {
			p.events.Waiting(false, 0)
		}
		f, err := p.up.get(context.Background(), wait)
		if errors.Is(err, inbound.ErrQuiet) {
			return 0, nil, err
		}
		if err != nil {
			return 0, nil, &disconnect.CloseError{Cause: disconnect.CauseLost, Code: disconnect.CloseLost, Err: err}
		}
		p.events.Alive(f.Len())
		switch f.Op() {
		case sendqueue.OpPing:
			if p.events.Ping() {
				p.queue.Pong(sendqueue.NewFrame(sendqueue.OpPong, f.Payload()))
			}
		case sendqueue.OpPong:
			p.events.Pong(string(f.Payload()))
		case sendqueue.OpClose:
			return 0, nil, closedByPeer(disconnect.ClosePayload(f.Payload()))
		default:
			if len(f.Payload()) > p.maxMessage {
				return 0, nil, tooBig()
			}
			return f.Op(), append(buf, f.Payload()...), nil
		}
	}
}

// Write implements sendqueue.Wire.
func (p *pipe) Write(batch []*sendqueue.Frame, m sendqueue.Meter) error {
	n := 0
	for i, f := range batch {
		waited, err := p.down.put(f)
		if err != nil {
			return err
		}
		if n += f.Len(); waited || i == len(batch)-1 {
			m.Took(n, waited)
			n = 0
		}
	}
	return nil
}

// SetWriteDeadline implements sendqueue.Wire.
func (p *pipe) SetWriteDeadline(t time.Time) error { return p.down.setDeadline(t) }

// CloseWrite implements sendqueue.Wire. Frames in a closed pipe can still be read.
func (p *pipe) CloseWrite() error { return nil }

// Close implements sendqueue.Wire.
func (p *pipe) Close() error {
	p.down.close()
	p.up.close()
	return nil
}

// PipeClient is the client's end of a Pipe. One goroutine at a time may call Read; the other
// methods are safe for concurrent use.
type PipeClient struct{ p *pipe }

// Read returns the next message, which the caller owns, and whether it is a binary one. It waits
// for one until ctx ends, and answers pings meanwhile. After the end of the connection it returns a
// *disconnect.CloseError, with code CloseLost if there was no close frame.
func (c *PipeClient) Read(ctx context.Context) (p []byte, binary bool, err error) {
	for {
		f, err := c.p.down.get(ctx, true)
		if err != nil {
			if ctx.Err() != nil {
				return nil, false, ctx.Err()
			}
			return nil, false, &disconnect.CloseError{Cause: disconnect.CauseLost, Code: disconnect.CloseLost, Err: err}
		}
		switch f.Op() {
		case sendqueue.OpPing:
			_, _ = c.p.up.put(sendqueue.NewFrame(sendqueue.OpPong, f.Payload()))
		case sendqueue.OpPong:
		case sendqueue.OpClose:
			code, reason, _ := disconnect.ClosePayload(f.Payload())
			_, _ = c.p.up.put(f)
			return nil, false, &disconnect.CloseError{Cause: disconnect.CauseServer, Code: code, Reason: reason}
		default:
			return bytes.Clone(f.Payload()), f.Op() == sendqueue.OpBinary, nil // the frame is shared
		}
	}
}

// Write sends a text message and keeps no reference to it. It waits while the server does not read.
func (c *PipeClient) Write(text []byte) error {
	return c.put(sendqueue.NewFrame(sendqueue.OpText, text))
}

// WriteBinary is Write for a binary message.
func (c *PipeClient) WriteBinary(p []byte) error {
	return c.put(sendqueue.NewFrame(sendqueue.OpBinary, p))
}

// Close sends a close frame. The answer of the server and the messages before it can still be read.
func (c *PipeClient) Close(code disconnect.CloseCode, reason string) error {
	return c.put(sendqueue.CloseFrame(uint16(code), reason))
}

func (c *PipeClient) put(f *sendqueue.Frame) error {
	_, err := c.p.up.put(f)
	return err
}

// Drop ends the connection without a close frame.
func (c *PipeClient) Drop() { _ = c.p.Close() }

// lane is one direction of a pipe: frames in order, bounded in bytes.
type lane struct {
	mu          sync.Mutex
	changed     sync.Cond
	frames      []*sendqueue.Frame
	bytes       int
	closed      bool
	deadline    time.Time
	interrupted bool   // a get that waits must return
	ready       func() // to be called when there is something to get
}

func newLane() *lane {
	l := &lane{}
	l.changed.L = &l.mu
	return l
}

// put appends f. It waits for space until the deadline passes or the lane closes, and reports
// whether it had to wait.
func (l *lane) put(f *sendqueue.Frame) (waited bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.closed && l.bytes >= pipeBuffer {
		wait := time.Until(l.deadline)
		if !l.deadline.IsZero() && wait <= 0 {
			return waited, os.ErrDeadlineExceeded
		}
		waited = true
		l.await(wait)
	}
	if l.closed {
		return waited, os.ErrClosed
	}
	l.frames = append(l.frames, f)
	l.bytes += f.Len()
	l.tell()
	return waited, nil
}

// tell announces that there is something to get. l.mu is held.
func (l *lane) tell() {
	l.changed.Broadcast()
	if l.ready != nil {
		l.ready()
		l.ready = nil
	}
}

// whenReady makes the lane call f once there is something to get. f must not call the lane.
func (l *lane) whenReady(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ready = f
	if len(l.frames) > 0 || l.closed {
		l.tell()
	}
}

// waits reports whether there is something to get.
func (l *lane) waits() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.frames) > 0
}

// interrupt makes a get that waits return inbound.ErrQuiet.
func (l *lane) interrupt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.interrupted = true
	l.changed.Broadcast()
}

// await waits for a change, or for the deadline if there is one. l.mu is held.
func (l *lane) await(wait time.Duration) {
	if !l.deadline.IsZero() {
		t := time.AfterFunc(wait, l.notify)
		defer t.Stop()
	}
	l.changed.Wait()
}

func (l *lane) notify() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changed.Broadcast()
}

// get returns the next frame, also from a closed lane. It waits for one until ctx ends. With wait
// false, or after interrupt, it returns inbound.ErrQuiet in place of waiting.
func (l *lane) get(ctx context.Context, wait bool) (*sendqueue.Frame, error) {
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, l.notify)()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.frames) == 0 && !l.closed && ctx.Err() == nil {
		if !wait || l.interrupted {
			l.interrupted = false
			return nil, inbound.ErrQuiet
		}
		l.changed.Wait()
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if len(l.frames) == 0 {
		return nil, os.ErrClosed
	}
	f := l.frames[0]
	l.frames[0] = nil
	if l.frames = l.frames[1:]; len(l.frames) == 0 {
		l.frames = nil
	}
	l.bytes -= f.Len()
	l.changed.Broadcast()
	return f, nil
}

func (l *lane) setDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deadline = t
	l.changed.Broadcast()
	return nil
}

func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.tell()
}
