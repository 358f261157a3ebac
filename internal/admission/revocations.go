package admission

import (
	"slices"
	"sync"
	"time"

	"github.com/realtime-go/realtime/internal/shrink"
)

// ban is somebody who must stay outside: of a room, or of everything if room is empty.
type Ban struct{ User, Room string }

// denials are who must stay outside for a time, and who was just thrown out.
//
// Whoever decides that somebody may come in takes his time: he asks a database, and by the
// time he says yes that may no longer be true. So each such decision notes at its beginning
// how many have been thrown out so far, and before it takes effect, under the lock of the
// user or the room, it looks at those who came after. Throwing out comes in two steps: first
// the note, then, under the same lock, everybody who is in. So nobody slips through: either
// his decision sees the note, or he is in before those inside are looked at.
type Denials struct {
	mu      sync.Mutex
	first   uint64 // number of the first of thrown; they begin with 1
	thrown  []Ban
	pending int // decisions under way
	until   map[Ban]time.Time
	purgeAt int // how many bans may be known before those are forgotten that are over
}

const (
	// maxThrown bounds how many are remembered who were thrown out during a decision. One
	// that takes longer is a no.
	maxThrown = 10_000
	minBans   = 64
	// unsureTime is after how long he may try again of whom it is not known whether he was thrown out.
	unsureTime = time.Second
)

// decision is the number of whoever was thrown out last when it began, plus one. Zero
// stands for what the application itself decides when it does it.
type Decision uint64

// begin notes that a decision has begun. It is to be ended.
func (d *Denials) Begin() Decision {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.first = max(d.first, 1)
	d.pending++
	return Decision(d.first + uint64(len(d.thrown)))
}

// end says that a decision has taken effect, or not.
func (d *Denials) End() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pending--; d.pending == 0 {
		d.forget(len(d.thrown))
	}
}

// forget forgets the first n who were thrown out. d.mu is held.
func (d *Denials) forget(n int) {
	d.first += uint64(n)
	d.thrown = d.thrown[n:]
	if len(d.thrown) == 0 {
		d.thrown = nil
	}
}

// throw notes that somebody is thrown out now.
func (d *Denials) Throw(b Ban) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pending == 0 {
		return
	}
	if len(d.thrown) >= maxThrown {
		d.forget(len(d.thrown) / 2)
	}
	d.thrown = append(d.thrown, b)
}

// deny keeps somebody outside for a time, or no longer if that is not positive.
func (d *Denials) Deny(b Ban, how time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if how <= 0 {
		delete(d.until, b)
		return
	}
	now := time.Now()
	if len(d.until) >= max(d.purgeAt, minBans) {
		d.until = shrink.Filter(d.until, now.Before)
		d.purgeAt = 2 * len(d.until)
	}
	if d.until == nil {
		d.until = make(map[Ban]time.Time)
	}
	d.until[b] = now.Add(how)
}

// check returns an error if somebody must stay outside: one that matches errDenied.
func (d *Denials) Check(began Decision, b Ban) error {
	if e := d.Find(began, b); e != nil {
		return e
	}
	return nil
}

// find returns why somebody must stay outside, nil if he need not.
func (d *Denials) Find(began Decision, b Ban) *DeniedError {
	if b.User == "" {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if until, ok := d.until[b]; ok {
		if left := time.Until(until); left > 0 {
			return &DeniedError{Left: left}
		}
		delete(d.until, b)
	}
	if began == 0 {
		return nil
	}
	if uint64(began) < d.first { // who knows: not for good, since it may be for what others did
		return &DeniedError{Left: unsureTime, Unsure: true}
	}
	if slices.Contains(d.thrown[uint64(began)-d.first:], b) {
		return &DeniedError{}
	}
	return nil
}

// deniedError is errDenied with how long it will be so, zero if he may try again. unsure says that
// it may be a mistake.
type DeniedError struct {
	Left   time.Duration
	Unsure bool
}

func (e *DeniedError) Error() string        { return ErrDenied.Error() }
func (e *DeniedError) Is(target error) bool { return target == ErrDenied }
