package memory

import (
	"hash/maphash"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// memoryKind is the common state of all rooms, or of all inboxes: their bounds, and how much they
// use. Streams without a publication do not count: they exist only while there is a subscription,
// and the number of connections is bounded.
type memoryKind struct {
	maxBytes, maxStreams int64 // zero: without bound
	bytes, streams       atomic.Int64

	evicting   sync.Mutex // held during an eviction
	evictAfter time.Time  // guarded by evicting
}

// full reports whether the streams use as much as they may.
func (k *memoryKind) full() bool { return k.maxBytes > 0 && k.bytes.Load() >= k.maxBytes }

// overfull reports whether the streams use a quarter more than they may.
func (k *memoryKind) overfull() bool { return k.full() && k.bytes.Load() >= k.maxBytes/4*5 }

// crowded reports whether n more streams would be too many.
func (k *memoryKind) crowded(n int) bool {
	return k.maxStreams > 0 && k.streams.Load()+int64(n) > k.maxStreams
}

// epochs determines the epochs of streams. A stream without a publication must keep its epoch
// although nothing is stored for its name: so the epoch is a hash of the name. The epoch must
// change when a stream that had publications ends. This is counted in a slot that several names
// share, so the epochs of the other names in the slot may change too.
type epochs struct {
	seed  maphash.Seed
	slots *[4096]atomic.Uint32 // the number of streams that have ended
}

func newEpochs() epochs { return epochs{maphash.MakeSeed(), new([4096]atomic.Uint32)} }

func (e *epochs) slot(stream string) *atomic.Uint32 {
	return &e.slots[maphash.String(e.seed, stream)%uint64(len(e.slots))]
}

// of returns the epoch of a stream that is about to begin.
func (e *epochs) of(stream string) string {
	life := struct {
		stream string
		nth    uint32
	}{stream, e.slot(stream).Load()}
	return strconv.FormatUint(maphash.Comparable(e.seed, life), 36)
}

// ended records that a stream has ended.
func (e *epochs) ended(stream string) { e.slot(stream).Add(1) }
