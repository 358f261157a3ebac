package sendqueue

import (
	"cmp"
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Errors that end a queue, passed to the failed function of [New].
var (
	// ErrOverflow means that the peer reads too slowly for the bounds of the queue.
	ErrOverflow = errors.New("sendqueue: queue overflow")
	// ErrWrite wraps the error of a write that failed or timed out.
	ErrWrite = errors.New("sendqueue: write failed")
)

const (
	// batchBytes bounds the frames of one batch. Frames that remain in the ring are still
	// subject to the policy for slow consumers.
	batchBytes = 256 << 10
	// portionBytes bounds the frames passed to one call of Wire.Write. After Abort, at most the
	// frames of the current portion are still written.
	portionBytes = 16 << 10
	// A frame of the priority Ephemeral is dropped if more than these wait.
	ephemeralMessages = 64
	ephemeralBytes    = 64 << 10
	// While more replies than these wait, the peer is not read.
	maxReplies    = 64
	maxReplyBytes = 256 << 10
)

// The defaults of [Config].
const (
	DefaultMaxMessages  = 1000
	DefaultMaxBytes     = 4 << 20
	DefaultWriteTimeout = 10 * time.Second
)

// Wire is the transport below a queue: a socket, or a pipe in memory that behaves like one.
type Wire interface {
	// Write writes whole frames in order and reports each accepted portion to m, which may set
	// another deadline. It blocks until everything is written, the deadline passes or Close is
	// called. A deadline that passes after a part of a portion was accepted is not an error. Write
	// must not retain batch. Only one goroutine calls it at a time.
	Write(batch []*Frame, m Meter) error
	// SetWriteDeadline makes Write return at t, even if it is already blocked.
	SetWriteDeadline(t time.Time) error
	// CloseWrite signals the end of the stream to the peer. Reading remains possible.
	CloseWrite() error
	// Close ends reading and writing immediately.
	Close() error
}

// Meter receives the progress of a write. The goroutine that writes calls it.
type Meter interface {
	// Took reports that the wire has accepted n more bytes, and whether it was full before.
	Took(n int, waited bool)
}

// Config is the common configuration of many queues. A zero bound means its default.
type Config struct {
	MaxMessages int // bound of a queue in frames, 1000
	MaxBytes    int // bound of a queue in bytes on the wire, 4 MiB
	// WriteTimeout is how long a write may block in addition to the time in which a peer of
	// 1 KiB/s receives what the wire has accepted, 10 s.
	WriteTimeout time.Duration
	// Go starts a goroutine. The owner of the queues must wait for these goroutines. Required.
	Go func(func())
	// Totals counts for all queues together. Required.
	Totals *Totals
	// Flushers write to sockets. If nil, each queue starts a goroutine whenever it has something
	// to write.
	Flushers *Flushers
}

// Totals counts the outcomes of the frames pushed to all queues. Pings, pongs and close frames are
// not counted.
type Totals struct {
	Written        atomic.Uint64
	DroppedOldest  atomic.Uint64
	DroppedNewest  atomic.Uint64
	DroppedNotices atomic.Uint64
	// DroppedEphemeral are frames of the priority Ephemeral.
	DroppedEphemeral atomic.Uint64
	// Lost frames were queued or being written when their queue ended, or were pushed later.
	Lost atomic.Uint64
	// Direct is the number of queues that use flushers.
	Direct atomic.Int64
	// Budget counts the memory of waiting frames, and Replies the part that peers have asked for.
	Budget  Budget
	Replies Replies
}

// State says which goroutine may write to the wire of a queue.
type State uint8

// The states of a queue. The package documentation shows the transitions.
const (
	Holding  State = iota // before Start: frames are collected and not written
	Idle                  // nothing to write
	Ready                 // on the list of a flusher, or about to be
	Flushing              // its flusher writes
	Owned                 // a goroutine of its own writes, and may block
	Dead                  // the wire is closed, or about to be
)

// Outcome is the result of a push.
type Outcome uint8

// The outcomes of a push.
const (
	Queued  Outcome = iota // it will be written, unless the queue ends first or drops it
	Dropped                // the queue had no room for it
	Refused                // the queue has ended or is about to
)

// Counts are the counters of one queue.
type Counts struct {
	Written, Dropped, Lost uint64
	Queued, QueuedBytes    int
}

// Through returns the value of Written at which all frames queued now are written, if none is
// dropped.
func (c Counts) Through() uint64 { return c.Written + uint64(c.Queued) }

// Queue is the send side of one connection: a bounded queue of frames, one slot each for a ping, a
// pong and a close frame, and the right to write. The owner must end each queue with Close, Abort
// or Kill.
//
// All methods are safe for concurrent use. Only WaitReplies, WaitSpace and WaitWritten block.
type Queue struct {
	// If the queue is not idle, Push uses the fields up to and including the start of ring, and no
	// others. They share one cache line of the processor: in a room with thousands of members a
	// push mostly waits for memory.
	mu         sync.Mutex
	state      State
	sealed     bool  // no more frames are accepted
	abort      bool  // frames whose write has not started are discarded
	closeTaken bool  // the close frame has been taken for writing
	flushes    uint8 // batches of the flusher, counted up to 2; used by it only
	peer       peerState
	ephemeral  bool // there may be ephemeral frames in ring
	cfg        *Config
	ring       ring

	flusher    *flusher // nil without raw
	next       *Queue   // in the list that a ready queue is on
	ringBytes  int64    // size of the ring known to the budget
	closing    *closing // nil until Close
	wire       Wire
	failed     func(error)
	raw        syscall.RawConn // nil: a goroutine writes
	prefix     *Frame          // written before everything else
	ping       *Frame
	pong       *Frame
	written    uint64
	dropped    uint64
	lost       uint64
	inFlight   int           // data frames of the current write
	writing    []*Frame      // frames of the current write, owned by the writing goroutine
	replies    int           // to the peer, queued or being written
	replyBytes int           // bytes of the replies
	moved      atomic.Uint64 // bytes that the wire has accepted
	flowed     atomic.Pointer[time.Time]
	transit    transit
	changed    chan struct{} // closed when fields change, nil unless wait needs it

	done event

	manyReplies atomic.Bool // WaitReplies has to look
	_           uint32      // fills the last cache line
}

// New returns a queue in the state [Holding] that writes to wire. The queue calls failed if it
// overflows, with an error that is ErrOverflow, and if a write fails, with one that wraps ErrWrite.
// failed must not block; the owner must then end the queue.
func New(cfg *Config, wire Wire, failed func(error)) *Queue {
	q := &Queue{cfg: cfg, wire: wire, failed: failed}
	if w, ok := wire.(RawWire); ok && cfg.Flushers != nil && cfg.Flushers.write != nil {
		if q.raw = w.RawConn(); q.raw != nil {
			cfg.Totals.Direct.Add(1)
			q.flusher = cfg.Flushers.next()
		}
	}
	return q
}

// Prepend makes the queue write p, unchanged, before everything else: the handshake, which is not a
// frame. It must be called before Start. The queue owns p.
func (q *Queue) Prepend(p []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.prefix = &Frame{wire: p}
}

// Start allows the queue to write.
func (q *Queue) Start() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.state != Holding {
		return
	}
	q.state = Idle
	q.schedule()
}

// schedule makes a goroutine write, if there is something to write and the queue is idle. q.mu is
// held.
func (q *Queue) schedule() {
	if q.state == Idle && q.pending() {
		q.ready(nil)
	}
}

// ready makes a goroutine write to an idle queue. If w is not nil, a flusher gets the queue from w.
// q.mu is held.
func (q *Queue) ready(w *Wakeups) {
	switch {
	case q.flusher == nil:
		q.state = Owned
		q.cfg.Go(q.drain)
	case w == nil:
		q.state = Ready
		q.flusher.add(q, q)
	default:
		q.state = Ready
		w.add(q)
	}
}

func (q *Queue) pending() bool {
	return q.ring.len() > 0 || q.pong != nil || q.ping != nil || q.closing != nil && !q.closeTaken
}

// Push appends a frame to the queue. policy applies to frames of the priorities Message and Vital.
// After the last push of a frame, the caller must settle it, see [Budget.Settle].
func (q *Queue) Push(f *Frame, priority Priority, policy Policy) Outcome {
	return q.push(nil, f, priority, policy)
}

// push is Push. If w is not nil, it is part of a fan-out.
func (q *Queue) push(w *Wakeups, f *Frame, priority Priority, policy Policy) Outcome {
	if w != nil {
		w.count()
	}
	q.mu.Lock()
	out := Queued
	switch {
	case q.sealed:
		q.countLost(1)
		out = Refused
	case priority == Reply:
		q.replies++
		q.replyBytes += f.Len()
		if q.replies > maxReplies || q.replyBytes > maxReplyBytes {
			q.manyReplies.Store(true)
		}
		if f.Len() >= bigReply {
			q.cfg.Totals.Replies.add(f.Len())
		}
	default:
		out = q.admit(f, priority, policy)
	}
	if out == Queued {
		f.notePush(priority)
		if q.ring.push(f) {
			q.accountRing()
		}
		if q.state == Idle {
			q.ready(w)
		}
	}
	q.mu.Unlock()
	return out
}

// admit makes room for f and returns Queued, or returns why it cannot. q.mu is held.
func (q *Queue) admit(f *Frame, priority Priority, policy Policy) Outcome {
	if priority == Notice || priority == Ephemeral {
		return q.admitOptional(f, priority)
	}
	for !q.fits(f, 1) {
		switch {
		case q.ephemeral && q.dropEphemeral(), policy == DropOldest && q.dropOldest():
			// check again
		case policy == Disconnect:
			q.seal()
			q.countLost(1)
			q.cfg.Go(func() { q.failed(ErrOverflow) })
			return Refused
		case policy == Decline:
			return Dropped
		default:
			q.dropped++
			q.cfg.Totals.DroppedNewest.Add(1)
			return Dropped
		}
	}
	return Queued
}

// admitOptional is admit for a notice or an ephemeral frame. q.mu is held.
func (q *Queue) admitOptional(f *Frame, priority Priority) Outcome {
	room, dropped := false, &q.cfg.Totals.DroppedNotices
	switch over := q.cfg.Totals.Budget.Over(); {
	case priority == Ephemeral:
		dropped = &q.cfg.Totals.DroppedEphemeral
		room = !over && q.fits(f, 1) && !q.behind()
	case !over:
		room = q.fits(f, 2)
		for !room && q.ephemeral && q.dropEphemeral() {
			room = q.fits(f, 2)
		}
	}
	if !room {
		q.dropped++
		dropped.Add(1)
		return Dropped
	}
	q.ephemeral = q.ephemeral || priority == Ephemeral
	return Queued
}

// behind reports whether too much waits for an ephemeral frame. This includes what a goroutine of
// the queue is writing, because that one waits for the peer. A flusher does not. q.mu is held.
func (q *Queue) behind() bool {
	n, bytes := q.ring.len(), q.ring.bytes
	if q.state == Owned {
		for _, f := range q.writing {
			if n++; n > ephemeralMessages {
				break
			}
			bytes += f.Len()
		}
	}
	return n > ephemeralMessages || bytes > ephemeralBytes
}

// dropEphemeral makes room for a frame that has a value later. It reports false if no ephemeral
// frame waits. q.mu is held.
func (q *Queue) dropEphemeral() bool {
	q.ephemeral = q.discard(q.ring.dropEphemeral(), &q.cfg.Totals.DroppedEphemeral)
	return q.ephemeral
}

// dropOldest is the policy. It reports false if no frame may be dropped. q.mu is held.
func (q *Queue) dropOldest() bool {
	return q.discard(q.ring.dropOldest(), &q.cfg.Totals.DroppedOldest)
}

// discard accounts for a frame that was taken out of the ring, and reports false for nil. q.mu is
// held.
func (q *Queue) discard(f *Frame, dropped *atomic.Uint64) bool {
	if f == nil {
		return false
	}
	q.cfg.Totals.Budget.add(-f.release(1))
	q.accountRing()
	q.dropped++
	dropped.Add(1)
	return true
}

// accountRing reports a change of the size of the ring to the budget. q.mu is held.
func (q *Queue) accountRing() {
	if now := q.ring.extraBytes(); now != q.ringBytes {
		q.cfg.Totals.Budget.add(now - q.ringBytes)
		q.ringBytes = now
	}
}

// fits reports whether f fits into 1/share of the bounds. In the state Holding the queue is bounded
// in bytes only: the peer is not responsible for the frames that wait.
func (q *Queue) fits(f *Frame, share int) bool {
	return (q.state == Holding || q.ring.len()+1 <= max(1, q.cfg.maxMessages()/share)) &&
		q.ring.bytes+f.Len() <= q.cfg.maxBytes()/share
}

// seal stops accepting frames and discards the queued ones. q.mu is held.
func (q *Queue) seal() {
	q.sealed = true
	freed := int64(0)
	var replies batch
	for i := range q.ring.len() {
		f := q.ring.at(i)
		freed += f.release(1)
		replies.countReply(f)
	}
	q.cfg.Totals.Budget.add(-freed)
	q.releaseReplies(&replies)
	q.countLost(q.ring.clear())
	q.accountRing()
	q.notify()
}

func (q *Queue) countLost(n int) {
	q.lost += uint64(n)
	q.cfg.Totals.Lost.Add(uint64(n))
}

// Ping puts a ping frame into its slot, in place of a ping that still waits there. Pings and pongs
// are written before queued frames.
func (q *Queue) Ping(f *Frame) { q.setSlot(&q.ping, f) }

// Heartbeat is like Ping, but keeps a ping that still waits.
func (q *Queue) Heartbeat(f *Frame) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.sealed && q.ping == nil {
		q.ping = f
		q.schedule()
	}
}

// Pong puts a pong frame into its slot, in place of a pong that still waits there: RFC 6455
// section 5.5.3 permits answering only the most recent ping.
func (q *Queue) Pong(f *Frame) { q.setSlot(&q.pong, f) }

func (q *Queue) setSlot(slot **Frame, f *Frame) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.sealed {
		*slot = f
		q.schedule()
	}
}

// Counts returns the counters of this queue.
func (q *Queue) Counts() Counts {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Counts{
		Written: q.written, Dropped: q.dropped, Lost: q.lost,
		Queued: q.ring.len() + q.inFlight, QueuedBytes: q.ring.bytes,
	}
}

// Unread returns the size in bytes of the replies that the peer has not taken yet.
func (q *Queue) Unread() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.replyBytes
}

// Moved returns the number of bytes that the wire has accepted.
func (q *Queue) Moved() uint64 { return q.moved.Load() }

// Flowed returns the time at which the wire last accepted bytes after it had been full, or zero. At
// that time the peer must have read.
func (q *Queue) Flowed() time.Time {
	if at := q.flowed.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// Due returns the time at which a peer of 1 KiB/s has received the bytes accepted by the wire.
// Small writes do not count.
func (q *Queue) Due() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.transit.due
}

// Weight returns the queue's share of the budget in bytes: a frame held by n queues counts 1/n for
// each of them. Closing all queues that hold a frame frees the sum of their weights. The time it
// takes is proportional to the number of queued frames.
func (q *Queue) Weight() float64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := float64(q.ringBytes)
	for i := range q.ring.len() {
		w += q.ring.at(i).share()
	}
	for _, f := range q.writing {
		w += f.share()
	}
	return w
}

func (c *Config) maxMessages() int            { return cmp.Or(c.MaxMessages, DefaultMaxMessages) }
func (c *Config) maxBytes() int               { return cmp.Or(c.MaxBytes, DefaultMaxBytes) }
func (c *Config) writeTimeout() time.Duration { return cmp.Or(c.WriteTimeout, DefaultWriteTimeout) }
