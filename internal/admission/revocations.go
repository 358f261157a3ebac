package admission

import (
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"github.com/realtime-go/realtime/internal/shrink"
)

// Subject is a user who is kept out: of a room, or of the server if Room is empty.
type Subject struct{ User, Room string }

// Revocations keeps users out, for a time or while decisions about them are under way. The zero
// value is ready. All methods are safe for concurrent use.
//
// A decision to let a user in may be slow, because it may ask a database, so the user can be
// revoked while it is under way. Therefore each decision takes a number when it begins. Before
// it takes effect, under the lock of the user or the room, it looks for revocations after that
// number. A revocation is recorded first, and then removes the user under the same lock. So
// either the decision finds the revocation, or the revocation finds the user inside.
type Revocations struct {
	mu      sync.Mutex
	first   uint64 // number of revoked[0]; numbers begin with 1
	revoked []Subject
	pending int // decisions under way
	denied  map[Subject]denial
	purgeAt int // the size of denied at which entries that have ended are forgotten
}

const (
	// maxRevoked bounds how many revocations are remembered for the decisions under way. A
	// decision that is older than all of them fails.
	maxRevoked = 10_000
	minDenied  = 64
	// unsureTime is when a client may try again whose decision was too old to tell.
	unsureTime = time.Second
)

// Decision is the number of the first revocation after its beginning. Zero stands for a
// decision that takes effect at once, such as a call of the application.
type Decision uint64

// Begin begins a decision. The caller must call End once.
func (r *Revocations) Begin() Decision {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.first = max(r.first, 1)
	r.pending++
	return Decision(r.first + uint64(len(r.revoked)))
}

// End ends a decision, whether or not it took effect.
func (r *Revocations) End() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending--; r.pending == 0 {
		r.forget(len(r.revoked))
	}
}

// forget forgets the n oldest revocations. r.mu is held.
func (r *Revocations) forget(n int) {
	r.first += uint64(n)
	r.revoked = r.revoked[n:]
	if len(r.revoked) == 0 {
		r.revoked = nil
	}
}

// Revoke makes the decisions about s that are under way fail.
func (r *Revocations) Revoke(s Subject) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending == 0 {
		return
	}
	if len(r.revoked) >= maxRevoked {
		r.forget(len(r.revoked) / 2)
	}
	r.revoked = append(r.revoked, s)
}

// denial says until when a subject is kept out.
type denial struct {
	until time.Time
	// stamp says which of two denials is the newer one. ended means that it was ended: until that time
	// other processes may still have an older one.
	stamp uint64
	ended bool
}

// endedTime is how long a process remembers that nobody is to be kept out, if it does not know of
// whom the others may know.
const endedTime = time.Hour

// Deny makes decisions about s fail for a time. Zero or less ends an earlier Deny. It returns a stamp
// that is at least the given one, and greater than that of any denial of s before.
func (r *Revocations) Deny(s Subject, d time.Duration, stamp uint64) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	before := r.denied[s]
	next := denial{until: now.Add(d), stamp: max(stamp, before.stamp+1)}
	if d <= 0 {
		next.ended, next.until = true, before.until
		if !now.Before(before.until) {
			next.until = now.Add(endedTime)
		}
	}
	r.set(s, next, now)
	return next.stamp
}

// set sets a denial. r.mu is held.
func (r *Revocations) set(s Subject, d denial, now time.Time) {
	if len(r.denied) >= max(r.purgeAt, minDenied) {
		r.denied = shrink.Filter(r.denied, func(d denial) bool { return now.Before(d.until) })
		r.purgeAt = 2 * len(r.denied)
	}
	if r.denied == nil {
		r.denied = make(map[Subject]denial)
	}
	r.denied[s] = d
}

// Check returns an error that matches ErrDenied if s is kept out, or nil.
func (r *Revocations) Check(began Decision, s Subject) error {
	if e := r.Find(began, s); e != nil {
		return e
	}
	return nil
}

// Find is Check with the details: it returns nil if s may come in.
func (r *Revocations) Find(began Decision, s Subject) *DeniedError {
	if s.User == "" {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if d, ok := r.denied[s]; ok {
		switch left := time.Until(d.until); {
		case left <= 0:
			delete(r.denied, s)
		case !d.ended:
			return &DeniedError{Left: left}
		}
	}
	if began == 0 {
		return nil
	}
	if uint64(began) < r.first {
		return &DeniedError{Left: unsureTime, Unsure: true}
	}
	if slices.Contains(r.revoked[uint64(began)-r.first:], s) {
		return &DeniedError{}
	}
	return nil
}

// Removed returns who was revoked from a room since a decision began, for a process that takes it over.
// It reports false if that is not known any more.
func (r *Revocations) Removed(began Decision, room string) (users []string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if uint64(began) < r.first {
		return nil, false
	}
	for _, s := range r.revoked[uint64(began)-r.first:] {
		if s.Room == room {
			users = append(users, s.User)
		}
	}
	return users, true
}

// Denied is what one process tells another of a subject: that it is kept out for some more time, or
// that it is not any more.
type Denied struct {
	Subject
	Left  time.Duration
	Stamp uint64
	Ended bool
}

// Denied returns all denials.
func (r *Revocations) Denied() []Denied {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Denied, 0, len(r.denied))
	for s, d := range r.denied {
		if left := time.Until(d.until); left > 0 {
			all = append(all, Denied{s, left, d.stamp, d.ended})
		}
	}
	return all
}

// Merge takes a denial of another process, if it is newer than that of this one. It reports whether it
// is, and now keeps the subject out.
func (r *Revocations) Merge(d Denied) (keepsOut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d.Left <= 0 || d.Stamp <= r.denied[d.Subject].stamp {
		return false
	}
	now := time.Now()
	r.set(d.Subject, denial{now.Add(d.Left), d.Stamp, d.Ended}, now)
	return !d.Ended
}

// settledTime is how long a denial must still last to count in a digest: it does not end everywhere at
// the same moment.
const settledTime = 2 * time.Second

// Digest is equal in two processes that have the same denials, and hardly ever in two others. It is
// zero if there are none.
func (r *Revocations) Digest() (sum uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for s, d := range r.denied {
		if d.until.Sub(now) > settledTime {
			h := fnv.New64a()
			_, _ = fmt.Fprintf(h, "%q %q %d", s.User, s.Room, d.stamp) // never fails
			sum ^= h.Sum64()
		}
	}
	return sum
}
