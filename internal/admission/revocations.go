package admission

import (
	"slices"
	"sync"
	"time"
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
	denied  denials
}

const (
	// maxRevoked bounds how many revocations are remembered for the decisions under way. A
	// decision that is older than all of them fails.
	maxRevoked = 10_000
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
	if d, ok := r.denied.all[s]; ok && !d.ended {
		if left := time.Until(d.until); left > 0 {
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
