package state

import (
	"slices"
	"sync"
	"time"

	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/timerwheel"
	"github.com/realtime-go/realtime/internal/wire"
)

const (
	// While a client has not seen so many flushes, or so many bytes in at least minUnseen of them,
	// it gets no more. With these bounds a client 250 ms away gets 30 flushes of 200 bytes a second,
	// and one with a link of 2 KB/s is less than two seconds behind.
	maxUnseen      = 16
	minUnseen      = 2
	maxUnseenBytes = 32 << 10

	// silence is how long a client may see nothing before it gets a flush all the same.
	silence = 10 * time.Second
	// recheck is when a reader is looked at again that waits for its queue, or for memory.
	recheck = 100 * time.Millisecond
)

// Pace decides when a connection may be sent what is current. All its readers share it. It is safe
// for concurrent use. The lock of a room may be held when a method is called that does not say
// otherwise.
type Pace struct {
	cfg      *Config
	queue    *sendqueue.Queue
	protocol wire.Protocol
	deflates bool // the client takes compressed frames

	mu      sync.Mutex
	sent    uint64    // frames, all flushes together
	passed  uint64    // frames of the flushes that do not count any more
	heard   time.Time // when the client last saw a flush, or got the first one that it has not seen
	unseen  [maxUnseen]flight
	first   int // the oldest in unseen
	n       int // in unseen
	bytes   int // of the flushes in unseen
	waiting []*Reader
	timer   timerwheel.Timer
	ended   bool
}

// flight is a flush that the client has not seen.
type flight struct {
	end   uint64 // Pace.sent after it
	bytes int
}

// NewPace returns the pace of a connection. deflates says that its client takes compressed frames.
func NewPace(cfg *Config, q *sendqueue.Queue, protocol wire.Protocol, deflates bool) *Pace {
	p := &Pace{cfg: cfg, queue: q, protocol: protocol, deflates: deflates}
	p.timer.Fire = func() { cfg.Go(p.silent) }
	return p
}

// ready reports whether r may be given a flush now. If not, r waits for its turn: until Seen, the
// end of the silence, or space in the queue allow it. With turn set, its turn has come. Otherwise
// readers that wait come first, so that a busy room does not take the place of the others.
func (p *Pace) ready(r *Reader, turn bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.free() && (turn || len(p.waiting) == 0) {
		return true
	}
	p.wait(r)
	return false
}

// acknowledges reports whether the client says what it has seen. For a plain client, what was
// written counts as seen.
func (p *Pace) acknowledges() bool { return p.protocol == wire.ProtoV1 }

// free requires that p.mu is held.
func (p *Pace) free() bool {
	if !p.acknowledges() {
		n := p.queue.Counts()
		return n.Queued < minUnseen || n.Queued < maxUnseen && n.QueuedBytes < maxUnseenBytes
	}
	return p.n < minUnseen || p.n < maxUnseen && p.bytes < maxUnseenBytes &&
		p.sent-p.passed < uint64(minUnseen*p.cfg.maxFrames())
}

// later makes r wait for its next turn.
func (p *Pace) later(r *Reader) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wait(r)
}

// wait requires that p.mu is held.
func (p *Pace) wait(r *Reader) {
	if r.waiting || p.ended {
		return
	}
	r.waiting = true
	if p.waiting = append(p.waiting, r); len(p.waiting) == 1 {
		p.setTimer()
	}
}

// drop makes r wait no longer, because it has left.
func (p *Pace) drop(r *Reader) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.waiting {
		r.waiting = false
		p.waiting = slices.DeleteFunc(p.waiting, func(other *Reader) bool { return other == r })
	}
}

// setTimer requires that p.mu is held.
func (p *Pace) setTimer() {
	switch {
	case p.ended || len(p.waiting) == 0:
		p.cfg.Wheel.Stop(&p.timer)
	case p.acknowledges() && !p.free():
		p.cfg.Wheel.Set(&p.timer, max(recheck, silence-time.Since(p.heard)))
	default:
		p.cfg.Wheel.Set(&p.timer, recheck)
	}
}

// took accounts for a flush that was pushed.
func (p *Pace) took(frames, bytes int, now time.Time) {
	if frames == 0 || !p.acknowledges() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n == 0 {
		p.heard = now
	}
	p.sent += uint64(frames)
	if p.n == maxUnseen { // two rooms were ready at once
		last := &p.unseen[(p.first+p.n-1)%maxUnseen]
		last.end, last.bytes = p.sent, last.bytes+bytes
	} else {
		p.unseen[(p.first+p.n)%maxUnseen] = flight{p.sent, bytes}
		p.n++
	}
	p.bytes += bytes
}

// Seen notes that frames of the connection have arrived, counted from its beginning, and gives
// waiting readers what is current. No lock is held.
func (p *Pace) Seen(frames uint64) {
	p.mu.Lock()
	frames = min(frames, p.sent)
	if frames <= p.passed {
		p.mu.Unlock()
		return
	}
	for p.n > 0 && p.unseen[p.first].end <= frames {
		p.pop()
	}
	p.passed, p.heard = frames, time.Now()
	p.release()
}

// silent is called when the client has not said anything for too long, or when the queue may have
// space again.
func (p *Pace) silent() {
	p.mu.Lock()
	if p.acknowledges() && !p.free() && time.Since(p.heard) >= silence {
		for p.heard = time.Now(); !p.free(); {
			p.pop()
		}
	}
	p.release()
}

// pop requires that p.mu is held.
func (p *Pace) pop() {
	p.bytes -= p.unseen[p.first].bytes
	p.passed = p.unseen[p.first].end
	p.first = (p.first + 1) % maxUnseen
	p.n--
}

// release gives the waiting readers one flush each in turn, as long as the client may get more.
// p.mu is held, and release unlocks it.
func (p *Pace) release() {
	for ok := true; ok && p.free() && len(p.waiting) > 0; {
		r := p.waiting[0]
		p.waiting[0] = nil
		p.waiting = p.waiting[1:]
		r.waiting = false
		p.mu.Unlock()
		ok = r.Serve()
		p.mu.Lock()
	}
	p.setTimer()
	p.mu.Unlock()
}

// Close ends the pace of a connection that has ended.
func (p *Pace) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended, p.waiting = true, nil
	p.cfg.Wheel.Stop(&p.timer)
}
