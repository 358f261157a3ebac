package sendqueue

import (
	"cmp"
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Errors with which a link ends by itself, given to [Config].Failed.
var (
	// ErrOverflow says that the peer reads too slowly for the queue's bound.
	ErrOverflow = errors.New("engine: send queue overflow")
	// ErrWrite wraps the error of a write that failed or took too long.
	ErrWrite = errors.New("engine: write failed")
)

const (
	// batchBytes bounds what is taken from the queue at once. What stays behind is still
	// subject to the policy of a slow consumer.
	batchBytes = 256 << 10
	// portionBytes bounds the frames that are given to the wire at once. A link that is aborted
	// writes no more of them than these.
	portionBytes = 16 << 10
	// At most so much may wait that answers the peer itself, before the peer is
	// not read any more.
	maxReplies    = 64
	maxReplyBytes = 256 << 10
	// perKiB is how long the slowest peer takes for a KiB.
	perKiB = time.Second
	// maxAhead is how much lies at most between a link and its peer: a socket that is full takes
	// more, 64 KiB at once, when the peer has made room for that and half of notSentLowatBytes.
	maxAhead = 96 << 10
	// chunk is from how many bytes on what a wire takes is expected to be on its way for long.
	chunk = 4 << 10
	// answerTime is how long the peer has to answer the close frame.
	answerTime = time.Second
)

// The defaults of [Config].
const (
	DefaultMaxMessages  = 1000
	DefaultMaxBytes     = 4 << 20
	DefaultWriteTimeout = 10 * time.Second
)

// Wire is the far side of a link: a socket, or something in memory that is like one.
type Wire interface {
	// Write puts whole frames on the wire, in order, and tells m of each portion that the wire
	// has taken, which may set another deadline. One goroutine calls it at a
	// time. It blocks until all is written, the deadline passes or Close is called.
	// It must not keep batch. A portion of which some is taken until the deadline is no error.
	Write(batch []*Frame, m Meter) error
	// SetWriteDeadline ends a Write that is still blocked at t, also one under way.
	SetWriteDeadline(t time.Time) error
	// CloseWrite tells the peer that nothing more comes. What the peer still says can be read.
	CloseWrite() error
	// Close ends reading and writing at once.
	Close() error
}

// Meter is told how a write goes on, by the goroutine that writes.
type Meter interface {
	// Took says that the wire has taken n bytes more, and whether it was full before that.
	Took(n int, waited bool)
}

// Config is what links have in common. Zero values mean the defaults.
type Config struct {
	MaxMessages int // bound of a queue in frames, 1000
	MaxBytes    int // bound of a queue in bytes on the wire, 4 MiB
	// WriteTimeout is how long a write may block beyond the time that a peer of 1 KiB/s needs for
	// what the wire has taken, 10 s.
	WriteTimeout time.Duration
	// Go starts a goroutine that the owner of the links waits for. Required.
	Go func(func())
	// Totals is where all links count together. Required.
	Totals *Totals
	// Flushers write to sockets. Nil: every link has a goroutine of its own while there
	// is something to write.
	Flushers *Flushers
}

// Totals counts what becomes of the frames given to all links. Frames of the
// classes Message, Notice and Reply are counted; pings, pongs and closes are not.
type Totals struct {
	Written        atomic.Uint64
	DroppedOldest  atomic.Uint64
	DroppedNewest  atomic.Uint64
	DroppedNotices atomic.Uint64
	// Lost frames were queued, being written or on their way when the link ended.
	Lost atomic.Uint64
	// Direct is how many links are written to by flushers.
	Direct atomic.Int64
	// Budget counts what waits, and Replies what of that peers have asked for.
	Budget  Budget
	Replies Replies
}

// State says who may write to a link's wire.
type State uint8

// The states of a link. A link is born Corked and ends Dead. With a socket that can be
// written without blocking it goes Idle, Ready, Flushing and back; when the socket is
// full, and with every other wire, it is Owned until nothing is left.
const (
	Corked   State = iota // frames are collected, nothing is written yet
	Idle                  // nothing to write
	Ready                 // on the list of its flusher
	Flushing              // its flusher writes
	Owned                 // a goroutine writes, and may block
	Dead                  // the wire is closed
)

// Outcome says what became of a pushed frame.
type Outcome uint8

// The outcomes of a push.
const (
	Queued  Outcome = iota // it will be written, unless the link ends first
	Dropped                // the queue had no room for it
	Refused                // the link has ended or is about to
)

// Counts is what one link counted.
type Counts struct {
	Written, Dropped, Lost uint64
	Queued, QueuedBytes    int
}

// Through is how many frames have been written when those that are queued are, if none is dropped.
func (c Counts) Through() uint64 { return c.Written + uint64(c.Queued) }

// Queue is the send side of one connection: a bounded queue, one slot each for a
// ping, a pong and a close frame, and the right to write.
// All methods are safe for concurrent use, and none but WaitReplies blocks.
type Queue struct {
	// A push on a link that has been woken touches these fields, up to the bytes of the queue,
	// and no others, one cache line of the processor: in a room of thousands it waits for memory
	// most of the time.
	mu     sync.Mutex
	state  State
	sealed bool  // nothing more is taken in
	abort  bool  // what is not begun is not written
	said   bool  // the close frame was written
	turns  uint8 // that it had, up to 2; the flusher's
	ears   ears
	cfg    *Config
	queue  ring

	flusher *flusher // of a link with raw
	ringed  int64    // what the budget knows of the ring, in bytes
	goodbye *goodbye // nil until Close
	wire    Wire
	failed  func(error)
	raw     syscall.RawConn // nil: the wire is written by a goroutine
	first   *Frame          // what goes before everything else
	ping    *Frame
	pong    *Frame
	written uint64
	dropped uint64
	lost    uint64
	flying  int           // data frames of the write under way
	writing []*Frame      // what is being written; of whoever writes
	replies int           // to the peer, queued or being written
	answer  int           // bytes of the replies
	moved   atomic.Uint64 // bytes that the wire has taken
	flowed  atomic.Pointer[time.Time]
	due     time.Time     // when the slowest peer has taken what the wire has
	news    chan struct{} // for who waits for some of this to change, see wait

	done event

	_ [2]uint64 // a link is a number of whole cache lines
}

// goodbye is how a link ends.
type goodbye struct {
	frame *Frame
	by    time.Time
	grace time.Duration // what progress of the write makes of the time until by
	slack time.Duration // by how much it may do so, together
	timer *time.Timer   // ends the wait for the peer's answer
}

// ears says what is still expected of the peer.
type ears uint8

const (
	listening ears = iota
	heardAll       // that it hangs up
	deaf           // nothing
)

// event happens once, and has a channel only if somebody waits for it. The lock of its
// link guards it.
type event struct {
	happened bool
	waiting  chan struct{}
}

func (e *event) happen() {
	if !e.happened && e.waiting != nil {
		close(e.waiting)
	}
	e.happened = true
}

func (e *event) wait() <-chan struct{} {
	if e.waiting == nil {
		e.waiting = make(chan struct{})
		if e.happened {
			close(e.waiting)
		}
	}
	return e.waiting
}

// NewLink returns a corked link that writes to wire. failed is called once if the
// link finds out by itself that it cannot go on; it must not block, and the owner
// answers with Close or Kill. The owner must end every link.
func NewLink(cfg *Config, wire Wire, failed func(error)) *Queue {
	l := &Queue{cfg: cfg, wire: wire, failed: failed}
	if w, ok := wire.(RawWire); ok && cfg.Flushers != nil && cfg.Flushers.write != nil {
		if l.raw = w.RawConn(); l.raw != nil {
			cfg.Totals.Direct.Add(1)
			l.flusher = cfg.Flushers.next()
		}
	}
	return l
}

// Begin has p written before everything else, as it is: what the protocol says before its
// first frame. It is called before Uncork, and p must not be changed any more.
func (l *Queue) Begin(p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.first = &Frame{wire: p}
}

// Uncork lets the link write.
func (l *Queue) Uncork() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != Corked {
		return
	}
	l.state = Idle
	l.wake()
}

// wake sees to it that somebody writes, if there is something to write and nobody
// does. l.mu is held.
func (l *Queue) wake() {
	switch {
	case l.state != Idle || !l.pending():
	case l.flusher != nil:
		l.state = Ready
		l.flusher.add(l)
	default:
		l.state = Owned
		l.cfg.Go(l.drain)
	}
}

func (l *Queue) pending() bool {
	return l.queue.len() > 0 || l.pong != nil || l.ping != nil || l.goodbye != nil && !l.said
}

// Push appends a frame to the queue. policy holds for the classes Message
// and Vital. Whoever has pushed
// a frame to all who get it settles it, see [Budget.Settle].
func (l *Queue) Push(f *Frame, class Class, policy Policy) Outcome {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sealed {
		l.lose(1)
		return Refused
	}
	if class == Reply {
		l.replies++
		l.answer += f.Len()
		if f.Len() >= bigReply {
			l.cfg.Totals.Replies.add(f.Len())
		}
	} else if out, ok := l.admit(f, class, policy); !ok {
		return out
	}
	f.give(class)
	if l.queue.push(f) {
		l.weighRing()
	}
	l.wake()
	return Queued
}

// admit makes sure that the queue has room for f, or says what becomes of it.
func (l *Queue) admit(f *Frame, class Class, policy Policy) (Outcome, bool) {
	share := 1
	if class == Notice {
		share = 2
	}
	if class == Notice && l.cfg.Totals.Budget.Over() {
		return l.dropNotice()
	}
	for !l.fits(f, share) {
		switch {
		case class == Notice:
			return l.dropNotice()
		case policy == DropOldest && l.dropOldest():
			// and look again
		case policy == Disconnect:
			l.seal()
			l.lose(1)
			l.cfg.Go(func() { l.failed(ErrOverflow) })
			return Refused, false
		default:
			l.dropped++
			l.cfg.Totals.DroppedNewest.Add(1)
			return Dropped, false
		}
	}
	return Queued, true
}

func (l *Queue) dropNotice() (Outcome, bool) {
	l.dropped++
	l.cfg.Totals.DroppedNotices.Add(1)
	return Dropped, false
}

func (l *Queue) dropOldest() bool {
	f := l.queue.dropOldest()
	if f == nil {
		return false
	}
	l.cfg.Totals.Budget.add(-f.release(1))
	l.weighRing()
	l.dropped++
	l.cfg.Totals.DroppedOldest.Add(1)
	return true
}

// weighRing tells the budget how the ring has grown or shrunk. l.mu is held.
func (l *Queue) weighRing() {
	if now := l.queue.burden(); now != l.ringed {
		l.cfg.Totals.Budget.add(now - l.ringed)
		l.ringed = now
	}
}

// fits reports whether f leaves the queue within the given part of its bounds. A corked
// link cannot be blamed for what waits: it is bounded in bytes only.
func (l *Queue) fits(f *Frame, share int) bool {
	return (l.state == Corked || l.queue.len()+1 <= max(1, l.cfg.maxMessages()/share)) &&
		l.queue.bytes+f.Len() <= l.cfg.maxBytes()/share
}

// seal stops intake and gives up what is queued.
func (l *Queue) seal() {
	l.sealed = true
	freed := int64(0)
	var answers batch
	for i := range l.queue.len() {
		f := l.queue.at(i)
		freed += f.release(1)
		answers.answers(f)
	}
	l.cfg.Totals.Budget.add(-freed)
	l.answered(&answers)
	l.lose(l.queue.clear())
	l.weighRing()
	l.tell()
}

func (l *Queue) lose(n int) {
	l.lost += uint64(n)
	l.cfg.Totals.Lost.Add(uint64(n))
}

// Ping puts a ping frame in its slot. It goes out before what is queued, and in place
// of a ping that still waits.
func (l *Queue) Ping(f *Frame) { l.slot(&l.ping, f) }

// Heartbeat is Ping, unless a ping waits already.
func (l *Queue) Heartbeat(f *Frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.sealed && l.ping == nil {
		l.ping = f
		l.wake()
	}
}

// Pong puts a pong frame in its slot. Of several that wait, the newest is sent:
// RFC 6455 section 5.5.3 asks for no more.
func (l *Queue) Pong(f *Frame) { l.slot(&l.pong, f) }

func (l *Queue) slot(slot **Frame, f *Frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.sealed {
		*slot = f
		l.wake()
	}
}

// Close ends the link within the given time: what is queued goes out, then the
// close frame, then the peer may answer, see [Queue.HeardAll] and [Queue.ReadEnded]; then the
// wire is closed. Only the first close frame counts. It never waits: [Queue.Done] tells.
func (l *Queue) Close(frame *Frame, within time.Duration) {
	l.end(frame, within, false)
}

// Abort is Close without what is queued. A frame of which a part is on the wire has to be written
// to its end, so the time begins anew whenever the peer takes some of it, up to five times as long
// in all. Then the peer has as long to answer.
func (l *Queue) Abort(frame *Frame, within time.Duration) {
	l.end(frame, within, true)
}

// Kill closes the wire now, without a word.
func (l *Queue) Kill() {
	l.mu.Lock()
	dead := l.die()
	l.mu.Unlock()
	if dead {
		l.hangUp()
	}
}

func (l *Queue) end(frame *Frame, within time.Duration, abort bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if abort {
		l.seal()
		l.abort = true
	}
	l.sealed = true
	l.tell()
	by := time.Now().Add(within)
	if l.goodbye == nil {
		l.goodbye = &goodbye{frame: frame, by: by}
		if abort {
			l.goodbye.grace, l.goodbye.slack = within, 4*within
		}
	} else {
		l.goodbye.hurry(by)
	}
	switch l.state {
	case Owned:
		_ = l.wire.SetWriteDeadline(l.goodbye.by)
	case Corked, Idle:
		l.state = Idle
		l.wake()
	}
}

// hurry makes the end come no later than by. The lock of the link is held, as for the following.
func (g *goodbye) hurry(by time.Time) {
	g.slack = max(0, min(g.slack, by.Sub(g.by)))
	if !by.Before(g.by) {
		return
	}
	g.by = by
	if g.timer != nil && g.timer.Stop() {
		g.timer.Reset(time.Until(by))
	}
}

// postpone gives the peer, which has taken something, more time.
func (g *goodbye) postpone() {
	if more := min(g.slack, g.grace-time.Until(g.by)); more > 0 {
		g.by, g.slack = g.by.Add(more), g.slack-more
	}
}

// die marks the link dead; it reports false if it was. l.mu is held.
func (l *Queue) die() bool {
	if l.state == Dead {
		return false
	}
	l.state = Dead
	l.seal()
	return true
}

func (l *Queue) hangUp() {
	_ = l.wire.Close()
	if l.raw != nil {
		l.cfg.Totals.Direct.Add(-1)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done.happen()
}

// Done is closed when the wire has been closed.
func (l *Queue) Done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.done.wait()
}

// HeardAll tells the link that nothing the peer still says matters, because it has said
// goodbye or nonsense. A link that has said goodbye then closes the wire for writing, and
// waits for the peer to do the same.
func (l *Queue) HeardAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hear(heardAll)
}

// ReadEnded tells the link that nobody reads from the wire any more, because the
// peer has hung up or is gone. A link that is closing then hangs up at once.
func (l *Queue) ReadEnded() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hear(deaf)
}

func (l *Queue) hear(e ears) {
	l.ears = max(l.ears, e)
	l.tell()
}

// Counts returns what became of the frames given to this link.
func (l *Queue) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Counts{
		Written: l.written, Dropped: l.dropped, Lost: l.lost,
		Queued: l.queue.len() + l.flying, QueuedBytes: l.queue.bytes,
	}
}

// Unread returns how many bytes the peer has asked for and not read.
func (l *Queue) Unread() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answer
}

// Moved returns how many bytes the wire has taken.
func (l *Queue) Moved() uint64 { return l.moved.Load() }

// Flowed returns when the wire has last taken something after it had been full, zero if it never
// has: then the peer must have read.
func (l *Queue) Flowed() time.Time {
	if at := l.flowed.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// Due returns by when a peer of 1 KiB/s has taken what the wire has, as far as that is not little.
func (l *Queue) Due() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.due
}

// Weight returns for how many bytes of the budget the link is answerable: a frame that n
// links hold weighs for each of them an n-th part. So closing all links that hold a frame
// frees what they weigh together. It takes time in proportion to the queue.
func (l *Queue) Weight() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := float64(l.ringed)
	for i := range l.queue.len() {
		w += l.queue.at(i).share()
	}
	for _, f := range l.writing {
		w += f.share()
	}
	return w
}

func (c *Config) maxMessages() int            { return cmp.Or(c.MaxMessages, DefaultMaxMessages) }
func (c *Config) maxBytes() int               { return cmp.Or(c.MaxBytes, DefaultMaxBytes) }
func (c *Config) writeTimeout() time.Duration { return cmp.Or(c.WriteTimeout, DefaultWriteTimeout) }
