package state

import (
	"time"

	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/shrink"
	"github.com/realtime-go/realtime/internal/wire"
)

// Reader is a member that is given what is current in a room. The lock of the room guards it.
type Reader struct {
	room    *Room
	pace    *Pace
	index   int // in room.readers; negative once it has left
	watches bool

	presence uint64 // the version of the entries that it has; 0: none
	values   uint64 // it has all values up to this version
	removed  uint64 // it knows what was removed up to this version
	round    *round // nil between rounds
	given    map[*cell[*Value]]uint64
	told     uint64 // the version of the values that its client was told; 0: none
	toldAt   time.Time

	waiting bool // guarded by pace
}

// Add adds a reader. It is given the values, and the entries once it watches.
func (r *Room) Add(pace *Pace) *Reader {
	reader := &Reader{room: r, pace: pace, index: len(r.readers), removed: r.values.table.version}
	r.readers = append(r.readers, reader)
	return reader
}

// Watch makes a reader a watcher, which is given the entries, too. Version is that of the entries
// that its client has from an earlier connection. Zero: it has none.
func (rd *Reader) Watch(version uint64) {
	if !rd.watches {
		rd.watches = true
		rd.room.watchers++
	}
	rd.presence = 0
	if rd.room.presence.knows(version) {
		rd.presence = version
	}
}

// Unwatch makes a watcher a reader that is given the values only. It returns a frame with which the
// caller tells the client.
func (rd *Reader) Unwatch() *sendqueue.Frame {
	if rd.watches {
		rd.watches, rd.presence = false, 0
		rd.room.watchers--
	}
	f := (&wire.PresenceFrame{Room: rd.room.name, Show: wire.ShowNothing}).Encode()
	rd.pace.took(1, f.Len(), time.Now())
	return f
}

// KnowsValues sets the version up to which the client has the values from an earlier connection.
func (rd *Reader) KnowsValues(version uint64) {
	rd.room.initValues() // in any case, the client must learn which keys exist
	rd.values, rd.removed, rd.round, rd.given, rd.told = 0, 0, nil, nil, 0
	if rd.room.values.table.knows(version) {
		rd.values, rd.removed = version, version
	}
}

// Begin gives a reader what it lacks. If the room has many entries, it waits for the next flush:
// then all who have joined in the meantime share a snapshot, or a difference.
func (rd *Reader) Begin() {
	r := rd.room
	p := &r.presence
	if rd.watches && rd.presence != p.version() && !p.counting() && p.table.len() > smallRoom {
		r.changedPresence(joinTick)
		return
	}
	rd.serve(false)
}

// smallRoom is up to how many entries a frame is made for each reader alone.
const smallRoom = 64

// Serve gives a reader one flush of what it lacks, if it has not left. It reports whether there was
// room for it. The lock of the room is not held.
func (rd *Reader) Serve() bool {
	rd.room.mu.Lock()
	defer rd.room.mu.Unlock()
	return rd.serve(true)
}

func (rd *Reader) serve(turn bool) bool {
	r := rd.room
	if rd.index < 0 || r.ended() {
		return true
	}
	f := flush{room: r, now: time.Now()}
	r.presence.prepare(f.now)
	ok := f.serve(rd, turn)
	f.end()
	if !r.presence.due().IsZero() { // the number has changed while nobody watched
		r.changedPresence(0)
	}
	return ok
}

// Owed returns about how many entries and values the reader lacks, and their size in bytes.
func (rd *Reader) Owed() (n, size int) {
	r, p := rd.room, &rd.room.presence
	switch {
	case !rd.watches || rd.presence == p.version():
	case p.counting():
		n = 1
	case rd.presence != 0:
		for _, c := range p.table.after(rd.presence) {
			n++
			size += c.value.Size()
		}
	default:
		n = p.table.len()
		size = int(p.size) - n*(entryOverhead-wire.Overhead)
	}
	if rd.values != r.values.table.version {
		for _, c := range r.values.table.after(rd.values) {
			n++
			size += wire.Overhead + c.value.size
		}
	}
	return n, size
}

// Watches reports whether the reader is a watcher.
func (rd *Reader) Watches() bool { return rd.watches }

// Leave removes a reader.
func (rd *Reader) Leave() {
	r := rd.room
	last := len(r.readers) - 1
	r.readers[rd.index] = r.readers[last]
	r.readers[rd.index].index = rd.index
	r.readers = shrink.Pop(r.readers)
	rd.index = -1
	rd.pace.drop(rd)
	if rd.watches {
		r.watchers--
	}
}
