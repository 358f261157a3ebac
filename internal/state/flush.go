package state

import (
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/wire"
)

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
