package state

import (
	"time"

	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/wire"
)

// flush is one walk through readers.
type flush struct {
	room    *Room
	wakeups sendqueue.Wakeups
	pushed  []*sendqueue.Frame // some more than once
	diffs   []encoded          // the last differences of presence
	listed  listed             // the values after a version
	keys    encoded            // which keys exist
	version encoded            // what tells a reader its version of the values
	now     time.Time

	pushes        int
	frames, bytes int // pushed to the current reader
}

// encoded is a frame that readers of a version get. The zero value has no frame.
type encoded struct {
	from           uint64
	plain, smaller *sendqueue.Frame // smaller is nil until a reader takes compressed frames
}

// pushEncoded reports whether the queue of a reader had room for a frame.
func (f *flush) pushEncoded(r *Reader, e *encoded) bool {
	if !r.pace.deflates {
		return f.push(r, e.plain)
	}
	if e.smaller == nil {
		e.smaller = f.room.cfg.Compressor.Smaller(e.plain)
	}
	return f.push(r, e.smaller)
}

// listed are the values that have changed after a version.
type listed struct {
	from   uint64
	values []*cell[*Value]
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
// In its turn, it gets one flush. serve reports whether there was room for it.
func (f *flush) serve(r *Reader, turn bool) bool {
	for f.room.behind(r) && r.pace.ready(r, turn) {
		f.frames, f.bytes = 0, 0
		ok := !f.room.cfg.Budget.Over() && f.servePresence(r) && f.serveValues(r)
		r.pace.took(f.frames, f.bytes, f.now)
		if !ok || turn && f.room.behind(r) {
			r.pace.later(r)
			return ok
		}
	}
	return true
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
		reader.values != r.values.table.version || reader.round != nil
}

// servePresence brings a reader's entries up to date.
func (f *flush) servePresence(r *Reader) bool {
	p := &f.room.presence
	now := p.version()
	if !r.watches || r.presence == now {
		return true
	}
	if !f.pushEncoded(r, f.presenceFrame(r.presence)) {
		return false
	}
	r.presence = now
	return true
}

// presenceFrame returns the frame for a reader of a version. Most readers have one of few versions.
func (f *flush) presenceFrame(from uint64) *encoded {
	p := &f.room.presence
	if !p.knows(from) {
		from = 0
	}
	for i := range f.diffs {
		if d := &f.diffs[i]; d.from == from {
			return d
		}
	}
	if len(f.diffs) == maxDiffs {
		f.diffs = f.diffs[1:]
	}
	f.diffs = append(f.diffs, encoded{from: from, plain: p.frame(from)})
	return &f.diffs[len(f.diffs)-1]
}

// maxDiffs is how many differences a flush keeps for readers that are not in step.
const maxDiffs = 8

// round is a walk through the values that a reader lacks, over several flushes. Each value gets its
// turn with what it is then, however often the others are set meanwhile.
type round struct {
	due  []*cell[*Value]
	next int    // index in due
	end  uint64 // after the round, the reader has all values up to this version
	// newer are the versions of values that were set after the round began, and given in it. given
	// are those of the round before.
	newer, given map[*cell[*Value]]uint64
}

// serveValues gives a reader values, as many as one flush may have. The rest is for the next one.
func (f *flush) serveValues(r *Reader) bool {
	vs := &f.room.values
	var t round // most readers finish at once, and need no memory for it
	switch {
	case r.round != nil:
		t = *r.round
	case r.values == vs.table.version:
		return true
	case !f.serveKeys(r):
		return false
	default:
		t = round{due: f.due(r.values), end: vs.table.version, given: r.given}
	}
	frames, bytes := 0, 0 // of the values: what else the flush has takes no place of theirs
	for ; t.next < len(t.due); t.next++ {
		c := t.due[t.next]
		if r.skips(c) || t.given[c] == c.version {
			continue
		}
		frame := c.value.frames.For(r.pace.protocol, r.pace.deflates)
		full := frames > 0 && // one fits, however large it is
			(frames >= f.room.cfg.maxFrames() || bytes+frame.Len() > f.room.cfg.maxBytes())
		if full || !f.push(r, frame) {
			rest := t
			r.round = &rest
			return full
		}
		frames, bytes = frames+1, bytes+frame.Len()
		if c.version > t.end {
			if t.newer == nil {
				t.newer = make(map[*cell[*Value]]uint64)
			}
			t.newer[c] = c.version
		}
	}
	r.round, r.values, r.given = nil, t.end, t.newer
	f.serveVersion(r)
	return true
}

// skips reports whether a reader need not be given a value, because it was removed before the
// reader could know it.
func (rd *Reader) skips(c *cell[*Value]) bool {
	return c.gone && (rd.pace.protocol == wire.ProtoPlain || c.version <= rd.removed)
}

// due returns the values that have changed after a version.
func (f *flush) due(version uint64) []*cell[*Value] {
	if f.listed.values == nil || f.listed.from != version {
		f.listed = listed{version, f.room.values.table.after(version)}
	}
	return f.listed.values
}

// serveKeys tells a reader which keys exist, if it cannot know which were removed.
func (f *flush) serveKeys(r *Reader) bool {
	vs := &f.room.values
	if r.pace.protocol == wire.ProtoPlain || vs.table.knows(max(r.values, r.removed)) {
		return true
	}
	if f.keys.plain == nil {
		f.keys.plain = vs.keysFrame(f.room.name)
	}
	if !f.pushEncoded(r, &f.keys) {
		return false
	}
	r.removed, r.told = vs.table.version, 0
	return true
}

// serveVersion tells a reader now and then up to which version it has all values, so that its
// client can name it over another connection.
func (f *flush) serveVersion(r *Reader) {
	if r.pace.protocol == wire.ProtoPlain || f.room.name == "" || r.told == r.values {
		return
	}
	if f.now.Sub(r.toldAt) < versionInterval && r.told != 0 {
		return
	}
	if f.version.plain == nil || f.version.from != r.values {
		f.version = encoded{from: r.values, plain: wire.LatestVersion(f.room.name, r.values)}
	}
	if f.pushEncoded(r, &f.version) {
		r.told, r.toldAt = r.values, f.now
	}
}

// versionInterval is the time between two frames that tell a reader its version.
const versionInterval = time.Second
