package admission

import (
	"container/heap"
	"hash/fnv"
	"io"
	"strconv"
	"time"

	"github.com/realtime-go/realtime/internal/shrink"
)

// denials are who is kept out, and for some time who is not any more: another process may have missed
// that. The zero value is ready. Revocations guards it.
type denials struct {
	all      map[Subject]denial
	peak     int // of all, see shrink.Delete
	ends     ends
	digests  [Buckets]uint64
	remember time.Duration // how long each is remembered at least; zero: there are no other processes
}

// denial says until when a subject is kept out.
type denial struct {
	until time.Time
	keep  time.Time // when it is forgotten
	stamp uint64    // of two denials of a subject, the one with the greater stamp counts
	ended bool
	hash  uint64
}

// Buckets is the number of digests. The bucket of a subject follows from its names.
const Buckets = 64

func bucketOf(s Subject) int {
	h := fnv.New64a()
	_, _ = io.WriteString(h, strconv.Quote(s.User)+s.Room) // never fails
	return int(h.Sum64() % Buckets)
}

// set sets a denial, and forgets those whose time has passed.
func (ds *denials) set(s Subject, d denial, now time.Time) {
	ds.expire(now)
	h := fnv.New64a()
	_, _ = io.WriteString(h, strconv.Quote(s.User)+strconv.Quote(s.Room)+strconv.FormatUint(d.stamp, 10))
	d.hash = h.Sum64()
	ds.digests[bucketOf(s)] ^= ds.all[s].hash ^ d.hash
	if ds.all == nil {
		ds.all = make(map[Subject]denial)
	}
	ds.all[s] = d
	heap.Push(&ds.ends, end{s, d.keep})
}

// expire forgets the denials whose time has passed.
func (ds *denials) expire(now time.Time) {
	for len(ds.ends) > 0 && !now.Before(ds.ends[0].at) {
		e := heap.Pop(&ds.ends).(end)
		if d, ok := ds.all[e.of]; ok && d.keep.Equal(e.at) { // it was not replaced meanwhile
			ds.digests[bucketOf(e.of)] ^= d.hash
			ds.all = shrink.Delete(ds.all, e.of, &ds.peak)
		}
	}
	if len(ds.ends) == 0 {
		ds.ends = nil // to free the array
	}
}

// end is when a denial is forgotten. Those of replaced ones stay until then.
type end struct {
	of Subject
	at time.Time
}

// ends is a heap of ends, the earliest first.
type ends []end

func (es ends) Len() int           { return len(es) }
func (es ends) Less(i, j int) bool { return es[i].at.Before(es[j].at) }
func (es ends) Swap(i, j int)      { es[i], es[j] = es[j], es[i] }
func (es *ends) Push(e any)        { *es = append(*es, e.(end)) }

func (es *ends) Pop() any {
	last := len(*es) - 1
	e := (*es)[last]
	(*es)[last] = end{}
	*es = (*es)[:last]
	return e
}

// Share makes r remember each denial for at least so long, so that processes that share their denials
// agree on the newest one of each subject.
func (r *Revocations) Share(remember time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.denied.remember = remember
}

// Deny makes decisions about s fail for a time. Zero or less ends an earlier Deny. It returns a stamp
// that is at least the given one, and greater than that of any denial of s before.
func (r *Revocations) Deny(s Subject, d time.Duration, stamp uint64) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	before := r.denied.all[s]
	next := denial{until: now.Add(max(0, d)), stamp: max(stamp, before.stamp+1), ended: d <= 0}
	next.keep = next.until
	for _, at := range []time.Time{before.keep, now.Add(r.denied.remember)} {
		if r.denied.remember > 0 && next.keep.Before(at) {
			next.keep = at
		}
	}
	r.denied.set(s, next, now)
	r.denied.expire(now)
	return next.stamp
}

// Denied is what one process tells another of a subject: that it is kept out for some more time, or
// that it is not any more, and how long the other must remember that.
type Denied struct {
	Subject
	Left, Keep time.Duration
	Stamp      uint64
	Ended      bool
}

// Denied returns the denials in some buckets.
func (r *Revocations) Denied(buckets []int) []Denied {
	wanted := [Buckets]bool{}
	for _, b := range buckets {
		if b >= 0 && b < Buckets {
			wanted[b] = true
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now, all := time.Now(), []Denied{}
	for s, d := range r.denied.all {
		if wanted[bucketOf(s)] && now.Before(d.keep) {
			all = append(all, Denied{s, d.until.Sub(now), d.keep.Sub(now), d.stamp, d.ended})
		}
	}
	return all
}

// Merge takes a denial of another process, if it is newer than that of this one. It reports whether it
// is, and now keeps the subject out.
func (r *Revocations) Merge(d Denied) (keepsOut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if d.Keep <= 0 || d.Keep < d.Left || d.Stamp <= r.denied.all[d.Subject].stamp {
		return false
	}
	r.denied.set(d.Subject, denial{
		until: now.Add(d.Left), keep: now.Add(d.Keep), stamp: d.Stamp, ended: d.Ended,
	}, now)
	return !d.Ended && d.Left > 0
}

// Digests returns a digest of each bucket. It is equal in two processes that have the same denials, and
// hardly ever in two others. It is zero if there are none.
func (r *Revocations) Digests() [Buckets]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.denied.expire(time.Now())
	return r.denied.digests
}
