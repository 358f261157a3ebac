package state

import (
	"sync"
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
)

// Config is what the states of all rooms have in common.
type Config struct {
	Wheel    *timerwheel.Wheel
	Go       func(func())
	Budget   *sendqueue.Budget
	Speakers *wire.Speakers
	Pushed   func(frames int) // counts the frames that were pushed
	// Stopped reports whether nothing is sent any more: a server that shuts down must not tell its
	// clients that all others leave.
	Stopped func() bool
}

// Room is what is current in a room, or for a connection: entries for its members, and values.
//
// The lock that was passed to [NewRoom] guards a Room and its readers. Methods are called with the
// lock held if they do not say otherwise.
type Room struct {
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
	r.cfg.Budget.Hold(-r.presence.size - r.values.memory)
}

// tick returns the time between two flushes.
func (r *Room) tick() time.Duration {
	if r.name == "" {
		return 0
	}
	return max(minTick, time.Duration(len(r.readers))*tickForReader)
}

// changed flushes at the end of the tick, or now if that has passed.
func (r *Room) changed() { r.flushFrom(r.flushed.Add(r.tick())) }

// changedPresence is changed after a change of the entries or of their number. The flush may come no
// sooner than least after the one before.
func (r *Room) changedPresence(least time.Duration) {
	due := r.presence.due()
	if r.watchers == 0 || r.presence.counting() && due.IsZero() {
		return
	}
	at := r.flushed.Add(max(least, r.tick()))
	if due.After(at) {
		at = due
	}
	r.flushFrom(at)
}

// flushFrom makes sure that there is a flush at a time, or earlier.
func (r *Room) flushFrom(at time.Time) {
	if len(r.readers) > 0 && !r.cfg.Stopped() && (r.due.IsZero() || at.Before(r.due)) {
		r.flushAt(at)
	}
}

// flushAt flushes at a time, or now if that has passed.
func (r *Room) flushAt(at time.Time) {
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
	f := flush{room: r}
	defer f.end()
	for _, reader := range r.readers {
		f.serve(reader)
	}
	if at := r.presence.due(); !at.IsZero() && r.watchers > 0 {
		r.flushFrom(at)
	}
}

// flush is one walk through readers.
type flush struct {
	room    *Room
	wakeups sendqueue.Wakeups
	pushed  []*sendqueue.Frame // each once, if readers are in step
	diffs   []encoded          // the last differences of presence
	listed  listed             // the values after a version

	pushes        int
	frames, bytes int // pushed to the current reader
}

// encoded is a frame that brings a reader from a version up to date.
type encoded struct {
	from  uint64
	frame *sendqueue.Frame
}

// listed are the values that have changed after a version.
type listed struct {
	from   uint64
	values []*cell[*value]
}

// end gives the pushed frames to the flushers and to the budget.
func (f *flush) end() {
	f.wakeups.Flush()
	f.room.cfg.Pushed(f.pushes)
	for _, frame := range f.pushed {
		f.room.cfg.Budget.Settle(frame)
	}
}

// serve gives a reader what has changed since it was served last, as much as its connection takes.
func (f *flush) serve(r *Reader) {
	for f.room.behind(r) && r.pace.ready(r) {
		if f.room.cfg.Budget.Over() {
			r.pace.retry(r)
			return
		}
		f.frames, f.bytes = 0, 0
		ok := f.servePresence(r) && f.serveValues(r)
		r.pace.took(f.frames, f.bytes)
		if !ok {
			r.pace.retry(r)
			return
		}
	}
}

// push reports whether the queue of a reader had room for a frame.
func (f *flush) push(r *Reader, frame *sendqueue.Frame) bool {
	out := f.wakeups.Push(r.pace.queue, frame, sendqueue.Vital, sendqueue.Decline)
	if out == sendqueue.Dropped {
		return false
	}
	if n := len(f.pushed); n == 0 || f.pushed[n-1] != frame {
		f.pushed = append(f.pushed, frame)
	}
	f.pushes++
	f.frames++
	f.bytes += frame.Len()
	return true
}

// behind reports whether something has changed since a reader was served.
func (r *Room) behind(reader *Reader) bool {
	return reader.watches && reader.presence != r.presence.version() ||
		reader.values != r.values.table.version
}

// servePresence brings a reader's entries up to date.
func (f *flush) servePresence(r *Reader) bool {
	p := &f.room.presence
	now := p.version()
	if !r.watches || r.presence == now {
		return true
	}
	if !f.push(r, f.presenceFrame(r.presence)) {
		return false
	}
	r.presence = now
	return true
}

// presenceFrame returns the frame for a reader of a version. Most readers have one of few versions.
func (f *flush) presenceFrame(from uint64) *sendqueue.Frame {
	p := &f.room.presence
	if !p.knows(from) {
		from = 0
	}
	for i := range f.diffs {
		if d := &f.diffs[i]; d.from == from {
			return d.frame
		}
	}
	if len(f.diffs) == maxDiffs {
		f.diffs = f.diffs[1:]
	}
	f.diffs = append(f.diffs, encoded{from, p.frame(from)})
	return f.diffs[len(f.diffs)-1].frame
}

// maxDiffs is how many differences a flush keeps for readers that are not in step.
const maxDiffs = 8

// serveValues gives a reader values, up to maxFlush bytes of them.
func (f *flush) serveValues(r *Reader) bool {
	vs := &f.room.values
	if r.values == vs.table.version {
		return true
	}
	plain := r.pace.protocol == wire.ProtoPlain
	if !plain && !vs.table.knows(max(r.values, r.removed)) {
		if !f.push(r, vs.keysFrame(f.room.name)) {
			return false
		}
		r.removed = vs.table.version
	}
	if f.listed.values == nil || f.listed.from != r.values {
		f.listed = listed{r.values, vs.table.after(r.values)}
	}
	total := 0
	for _, c := range f.listed.values {
		if c.gone && (plain || c.version <= r.removed) {
			continue
		}
		frame := c.value.frames.For(r.pace.protocol, false)
		if total += frame.Len(); total > maxFlush && total > frame.Len() {
			return true // the rest is for the next flush
		}
		if !f.push(r, frame) {
			return false
		}
		r.values = c.version
	}
	r.values = vs.table.version
	return true
}
