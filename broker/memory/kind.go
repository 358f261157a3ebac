package memory

import (
	"hash/maphash"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// memoryKind is what the rooms of a [Memory] have in common, or the inboxes: their bounds, and how
// much they take. Streams to which nothing was published do not count: they are there as long as
// somebody is subscribed, and the connections are bounded.
type memoryKind struct {
	maxBytes, maxStreams int64 // zero: without bound
	bytes, streams       atomic.Int64

	evicting   sync.Mutex // held while something is forgotten
	evictAfter time.Time  // guarded by evicting
}

// full reports whether the streams take as much as they may.
func (k *memoryKind) full() bool { return k.maxBytes > 0 && k.bytes.Load() >= k.maxBytes }

// overfull reports whether they take a quarter more than that.
func (k *memoryKind) overfull() bool { return k.full() && k.bytes.Load() >= k.maxBytes/4*5 }

// crowded reports whether so many more would be too many.
func (k *memoryKind) crowded(more int) bool {
	return k.maxStreams > 0 && k.streams.Load()+int64(more) > k.maxStreams
}

// lives tells the epochs of streams. Nothing is kept for the name of one to which nothing was
// published, and its epoch stays the same nevertheless: it is a hash of the name. It has to change
// when a stream ends that had publications. That is noted for a slot that some names share, so
// another name of the slot may get another epoch too.
type lives struct {
	seed  maphash.Seed
	slots *[4096]atomic.Uint32 // how many streams have ended
}

func newLives() lives { return lives{maphash.MakeSeed(), new([4096]atomic.Uint32)} }

func (l *lives) slot(stream string) *atomic.Uint32 {
	return &l.slots[maphash.String(l.seed, stream)%uint64(len(l.slots))]
}

// epoch returns the epoch of a stream that is about to begin.
func (l *lives) epoch(stream string) string {
	life := struct {
		stream string
		nth    uint32
	}{stream, l.slot(stream).Load()}
	return strconv.FormatUint(maphash.Comparable(l.seed, life), 36)
}

// ended notes that a stream has ended.
func (l *lives) ended(stream string) { l.slot(stream).Add(1) }
