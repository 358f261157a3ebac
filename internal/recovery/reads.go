package recovery

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/realtime-go/realtime/broker"
)

const (
	// maxKeptBytes bounds the pages that are kept for other subscriptions, of all streams together,
	// and keptTime how long one is used.
	maxKeptBytes = 4 << 20
	keptTime     = time.Second
)

// reads are the reads of streams that run, and some that have ended: callers that need the same
// page share one read. The zero value is ready. It is safe for concurrent use.
type reads struct {
	mu    sync.Mutex
	begun uint64 // how many
	last  map[readKey]*read
	kept  []*read // the oldest first
	bytes int     // of kept
}

type readKey struct {
	stream string
	query  broker.Query
}

// read is one read of a page. page and err are valid after done, and nobody may change them.
type read struct {
	key    readKey
	number uint64 // of those that have begun
	topic  *Topic // for which it is kept; nil: it is not
	losses uint64 // of the topic when it began
	at     time.Time
	shared bool // guarded by reads.mu

	done    chan struct{}
	page    broker.Page
	err     error
	aborted bool // by the context of its caller
}

// get returns a read that began after the call of get, or that fits, or the given one, which it
// does then by calling from.
func (rs *reads) get(
	ctx context.Context, mine *read, fits func(*read) bool, from func() (broker.Page, error),
) *read {
	rs.mu.Lock()
	before := rs.begun
	var other *read
	for {
		r := rs.last[mine.key]
		if r == nil || r == other { // which does not fit
			return rs.do(ctx, mine, from)
		}
		r.shared = true
		rs.mu.Unlock()
		select {
		case <-r.done:
		case <-ctx.Done():
			return &read{err: context.Cause(ctx)}
		}
		if !r.aborted && (r.number > before || r.err == nil && fits(r)) {
			return r
		}
		other = r
		rs.mu.Lock()
	}
}

// do does a read. rs.mu is held at its beginning only.
func (rs *reads) do(ctx context.Context, r *read, from func() (broker.Page, error)) *read {
	rs.begun++
	r.number, r.at, r.done = rs.begun, time.Now(), make(chan struct{})
	if rs.last == nil {
		rs.last = map[readKey]*read{}
	}
	rs.last[r.key] = r
	rs.mu.Unlock()
	r.page, r.err = from()
	r.aborted = r.err != nil && ctx.Err() != nil
	rs.mu.Lock()
	defer rs.mu.Unlock()
	defer close(r.done)
	if r.topic != nil && r.err == nil {
		rs.keep(r)
	} else {
		delete(rs.last, r.key)
	}
	return r
}

// keep keeps a read, and forgets those that are too old or too many. rs.mu is held.
func (rs *reads) keep(r *read) {
	rs.kept = append(rs.kept, r)
	rs.bytes += r.page.Size()
	n := 0
	for rs.bytes > maxKeptBytes || time.Since(rs.kept[n].at) > keptTime {
		old := rs.kept[n]
		rs.bytes -= old.page.Size()
		if rs.last[old.key] == old {
			delete(rs.last, old.key)
		}
		if n++; n == len(rs.kept) {
			break
		}
	}
	rs.kept = slices.Delete(rs.kept, 0, n)
}

// never is for callers to whom only a read fits that began after their call.
func never(*read) bool { return false }

// fits reports whether a read for this topic is as good as one that begins now: it began after the
// last loss, and either there is more to read or it has reached the end. The caller does not hold
// the lock.
func (t *Topic) fits(r *read) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	top := r.page.Top
	return r.topic == t && r.losses == t.losses && time.Since(r.at) < keptTime &&
		top.Epoch == t.last.Epoch && (r.page.More || top.Offset >= t.last.Offset)
}
