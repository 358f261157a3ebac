package realtime

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

// pipeBuffer is how many bytes each direction of a pipe holds before the writer
// waits, as a socket's buffers would.
const pipeBuffer = 64 << 10

// Pipe returns a connection in memory: a Transport for [Manager.Register], and the
// client's end. It behaves like a WebSocket whose client answers pings while it
// reads, needs no port, and works in a testing/synctest bubble. With [V1] among the
// subprotocols that it offers, the client speaks realtime.v1.
func Pipe(subprotocols ...string) (Transport, *PipeClient) {
	p := &pipe{down: newLane(), up: newLane()}
	if slices.Contains(subprotocols, V1) {
		p.proto = wire.ProtoV1
	}
	return p, &PipeClient{p: p}
}

// pipe is the server's end.
type pipe struct {
	proto      wire.Protocol
	down, up   *lane
	ears       ears
	link       *sendqueue.Queue
	maxMessage int
}

// RemoteAddr returns "pipe".
func (p *pipe) RemoteAddr() string { return "pipe" }

func (p *pipe) protocol() wire.Protocol { return p.proto }

func (p *pipe) deflates() bool { return false }

func (p *pipe) wire() sendqueue.Wire { return p }

func (p *pipe) attach(l *sendqueue.Queue, e ears, maxMessage int) {
	p.link, p.ears, p.maxMessage = l, e, maxMessage
}

func (p *pipe) ahead() bool { return p.up.waits() }

func (p *pipe) unseen() int { return 0 }

func (p *pipe) nudge() bool {
	p.up.nudge()
	return true
}

func (p *pipe) park() bool {
	p.up.whenReady(p.ears.wake)
	return true
}

func (p *pipe) discard() {}

func (p *pipe) release() {}

func (p *pipe) receive(buf []byte, wait bool) (sendqueue.Op, []byte, error) {
	for {
		f, err := p.up.get(context.Background(), wait)
		if errors.Is(err, inbound.ErrQuiet) {
			return 0, nil, err
		}
		if err != nil {
			return 0, nil, &CloseError{Cause: CauseLost, Code: CloseLost, Err: err}
		}
		p.ears.alive(f.Len())
		switch f.Op() {
		case sendqueue.OpPing:
			if p.ears.ping() {
				p.link.Pong(sendqueue.NewFrame(sendqueue.OpPong, f.Payload()))
			}
		case sendqueue.OpPong:
			p.ears.pong(string(f.Payload()))
		case sendqueue.OpClose:
			code, reason := disconnect.ClosePayload(f.Payload())
			return 0, nil, &CloseError{Cause: CauseClient, Code: code, Reason: reason}
		default:
			if len(f.Payload()) > p.maxMessage {
				return 0, nil, tooBig()
			}
			return f.Op(), append(buf, f.Payload()...), nil
		}
	}
}

// Write is sendqueue.Wire.
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

// SetWriteDeadline is sendqueue.Wire.
func (p *pipe) SetWriteDeadline(t time.Time) error { return p.down.setDeadline(t) }

// CloseWrite is sendqueue.Wire. What was put into a pipe that is closed can still be read.
func (p *pipe) CloseWrite() error { return nil }

// Close is sendqueue.Wire.
func (p *pipe) Close() error {
	p.down.close()
	p.up.close()
	return nil
}

// PipeClient is the client's end of a [Pipe]. Read may be called by one goroutine
// at a time; the rest is safe for concurrent use.
type PipeClient struct{ p *pipe }

// Read returns the next message, which the caller owns, and whether it is a binary one. It
// waits for one until ctx ends, answering pings as it goes. When the connection has ended it
// returns a *CloseError, whose code is CloseLost if there was no close frame.
func (c *PipeClient) Read(ctx context.Context) (p []byte, binary bool, err error) {
	for {
		f, err := c.p.down.get(ctx, true)
		if err != nil {
			if ctx.Err() != nil {
				return nil, false, ctx.Err()
			}
			return nil, false, &CloseError{Cause: CauseLost, Code: CloseLost, Err: err}
		}
		switch f.Op() {
		case sendqueue.OpPing:
			_, _ = c.p.up.put(sendqueue.NewFrame(sendqueue.OpPong, f.Payload()))
		case sendqueue.OpPong:
		case sendqueue.OpClose:
			code, reason := disconnect.ClosePayload(f.Payload())
			_, _ = c.p.up.put(f)
			return nil, false, &CloseError{Cause: CauseServer, Code: code, Reason: reason}
		default:
			return bytes.Clone(f.Payload()), f.Op() == sendqueue.OpBinary, nil // the frame is shared
		}
	}
}

// Write sends a text message; it keeps no reference to text. It waits while the
// server does not read.
func (c *PipeClient) Write(text []byte) error {
	return c.put(sendqueue.NewFrame(sendqueue.OpText, text))
}

// WriteBinary is Write for a binary message.
func (c *PipeClient) WriteBinary(p []byte) error {
	return c.put(sendqueue.NewFrame(sendqueue.OpBinary, p))
}

// Close says goodbye, as a page does that calls close. The server's answer and what
// it had queued can still be read.
func (c *PipeClient) Close(code CloseCode, reason string) error {
	return c.put(sendqueue.CloseFrame(uint16(code), reason))
}

func (c *PipeClient) put(f *sendqueue.Frame) error {
	_, err := c.p.up.put(f)
	return err
}

// Drop ends the connection without a word, as a process that is killed does.
func (c *PipeClient) Drop() { _ = c.p.Close() }

// lane is one direction of a pipe: frames in order, bounded in bytes.
type lane struct {
	mu       sync.Mutex
	changed  sync.Cond
	frames   []*sendqueue.Frame
	bytes    int
	closed   bool
	deadline time.Time
	nudged   bool   // whoever waits in get is to return
	ready    func() // to be called when there is something to get
}

func newLane() *lane {
	l := &lane{}
	l.changed.L = &l.mu
	return l
}

// put appends f. It waits until there is room, and reports whether it did, the deadline passes or
// the lane closes.
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

// tell says that there is something to get. l.mu is held.
func (l *lane) tell() {
	l.changed.Broadcast()
	if l.ready != nil {
		l.ready()
		l.ready = nil
	}
}

// whenReady has f called once there is something to get. f must not call the lane.
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

// nudge makes a get that waits return inbound.ErrQuiet.
func (l *lane) nudge() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nudged = true
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

// get takes the first frame. What is in a closed lane can still be taken. With wait
// false, or after nudge, it returns inbound.ErrQuiet in place of waiting.
func (l *lane) get(ctx context.Context, wait bool) (*sendqueue.Frame, error) {
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, l.notify)()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.frames) == 0 && !l.closed && ctx.Err() == nil {
		if !wait || l.nudged {
			l.nudged = false
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
