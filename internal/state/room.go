package state

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/timerwheel"
	"github.com/realtime-go/realtime/internal/wire"
)

const (
	// A room flushes at most once in a tick. With these numbers it pushes at most 10,000 flushes a
	// second, however many readers it has.
	minTick       = 20 * time.Millisecond
	tickForReader = 100 * time.Microsecond
	// joinTick is the time between two flushes if members only join and leave: many may do so at
	// once, and each needs all entries.
	joinTick = 100 * time.Millisecond

	// maxFlush bounds the values of one flush to one reader, in bytes.
	maxFlush = 64 << 10
	// queueShare is the part of a send queue that one flush may take. Two flushes may be unseen in
	// any case, and messages need the rest.
	queueShare = 8
)

// Config is what the states of all rooms have in common.
type Config struct {
	Wheel      *timerwheel.Wheel
	Go         func(func())
	Budget     *sendqueue.Budget
	Speakers   *wire.Speakers
	Compressor *wire.Compressor
	Pushed     func(frames int) // counts the frames that were pushed
	Node       string           // the id of this node; empty if there are no others
	// Stopped reports whether nothing is sent any more: a server that shuts down must not tell its
	// clients that all others leave.
	Stopped func() bool
	// QueueMessages and QueueBytes are the bounds of the send queues.
	QueueMessages, QueueBytes int
	// Limit is how much memory the states of all rooms may take, in bytes. Zero: no limit of their
	// own.
	Limit int64
	held  atomic.Int64
}

// hold accounts for memory that is taken, or given back.
func (c *Config) hold(bytes int64) {
	c.held.Add(bytes)
	c.Budget.Hold(bytes)
}

// Short reports whether memory is short: SetValue may return ErrShort.
func (c *Config) Short() bool { return !c.fits(64 << 10) }

// fits reports whether more memory may be taken. Bytes may be negative.
func (c *Config) fits(bytes int64) bool {
	return bytes <= 0 || !c.Budget.Pressed() && (c.Limit == 0 || c.held.Load()+bytes <= c.Limit)
}

// maxFrames and maxBytes bound the values of one flush.
func (c *Config) maxFrames() int { return max(2, c.QueueMessages/queueShare) }
func (c *Config) maxBytes() int  { return min(maxFlush, c.QueueBytes/queueShare) }

// Room is what is current in a room, or for a connection: entries for its members, and values.
//
// The lock that was passed to [NewRoom] guards a Room and its readers. Methods are called with the
// lock held if they do not say otherwise.
type Room struct {
	// Changed is called with the key of each entry of this node that has changed, is new or is gone.
	// Nil: there are no other nodes.
	Changed func(key string)

	cfg      *Config
	mu       *sync.Mutex
	name     string // empty: of a connection
	presence presence
	values   values
	readers  []*Reader
	watchers int

	flushed time.Time // when the last flush began
	due     time.Time // when the next one begins; zero: nothing has changed
	timer   *time.Timer
	closed  bool
}

// NewRoom returns the state of a room, which has no entries and no values.
func NewRoom(cfg *Config, mu *sync.Mutex, name string, show Show) *Room {
	return &Room{cfg: cfg, mu: mu, name: name, presence: newPresence(name, show)}
}

// Close ends the state of a room that has no members any more.
func (r *Room) Close() {
	r.closed = true
	if r.timer != nil {
		r.timer.Stop()
	}
	r.cfg.hold(-r.presence.size - r.values.memory)
}

// tick returns the time between two flushes.
func (r *Room) tick() time.Duration {
	if r.name == "" {
		return 0
	}
	return max(minTick, time.Duration(len(r.readers))*tickForReader)
}

// changed flushes at the end of the tick, or now if that has passed.
func (r *Room) changed() { r.flushBy(r.flushed.Add(r.tick())) }

// changedPresence is changed after a change of the entries or of their number. The flush may come
// no sooner than least after the one before.
func (r *Room) changedPresence(least time.Duration) {
	due := r.presence.due()
	if r.watchers == 0 || r.presence.counting() && due.IsZero() {
		return
	}
	at := r.flushed.Add(max(least, r.tick()))
	if due.After(at) {
		at = due
	}
	r.flushBy(at)
}

// flushBy makes sure that there is a flush at a time, or earlier: now if that has passed.
func (r *Room) flushBy(at time.Time) {
	if len(r.readers) == 0 || r.cfg.Stopped() || !r.due.IsZero() && !at.Before(r.due) {
		return
	}
	wait := time.Until(at)
	if wait <= 0 {
		r.flush()
		return
	}
	r.due = at
	if r.timer == nil {
		r.timer = time.AfterFunc(wait, r.ticked)
	} else {
		r.timer.Reset(wait)
	}
}

func (r *Room) ticked() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended() && !r.due.IsZero() {
		r.flush()
	}
}

// ended reports whether the room has ended, or the server is about to.
func (r *Room) ended() bool { return r.closed || r.cfg.Stopped() }

// flush gives each reader what has changed. Readers that are in step share the frames.
func (r *Room) flush() {
	now := time.Now()
	r.flushed, r.due = now, time.Time{}
	r.presence.prepare(now)
	f := flush{room: r, now: now}
	defer f.end()
	for _, reader := range r.readers {
		f.serve(reader, false)
	}
	if at := r.presence.due(); !at.IsZero() && r.watchers > 0 {
		r.flushBy(at)
	}
}
