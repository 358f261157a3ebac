package tickets

import (
	"crypto/rand"
	"errors"
	"sync"
	"time"
)

// Time is how long a ticket is valid.
const Time = 30 * time.Second

const (
	// maxAll bounds the unused tickets, maxUser those of one user, and maxAnonymous those without a
	// user.
	maxAll       = 100_000
	maxUser      = 100
	maxAnonymous = maxAll / 2
)

// ErrFull means that too many tickets are unused.
var ErrFull = errors.New("tickets: too many are unused")

// Box keeps tickets for values. The zero value is ready. It is safe for concurrent use and does not
// block.
type Box[T any] struct {
	mu     sync.Mutex
	unused map[string]*ticket[T]
	byUser map[string]int // the number of unused tickets
	order  []*ticket[T]   // the oldest first; includes used ones
}

type ticket[T any] struct {
	name, user string
	value      T
	until      time.Time
}

// Issue returns the name of a ticket for a value of a user: prefix and 26 random letters and digits.
// It returns ErrFull while there are too many tickets of the user, or in all.
func (b *Box[T]) Issue(prefix, user string, value T) (name string, err error) {
	t := &ticket[T]{name: prefix + rand.Text(), user: user, value: value}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.discardOld(now)
	limit := maxUser
	if user == "" {
		limit = maxAnonymous
	}
	if len(b.unused) >= maxAll || b.byUser[user] >= limit {
		return "", ErrFull
	}
	if b.unused == nil {
		b.unused, b.byUser = make(map[string]*ticket[T]), make(map[string]int)
	}
	t.until = now.Add(Time)
	b.unused[t.name], b.order = t, append(b.order, t)
	b.byUser[user]++
	return t.name, nil
}

// discardOld discards up to four of the oldest tickets that are used or have expired. That is more
// than Issue adds, so the number of old tickets does not grow. b.mu is held.
func (b *Box[T]) discardOld(now time.Time) {
	for range 4 {
		if len(b.order) == 0 {
			b.order = nil // to free the array
			return
		}
		t := b.order[0]
		if b.unused[t.name] != nil && now.Before(t.until) {
			return
		}
		b.order[0] = nil
		b.order = b.order[1:]
		b.use(t)
	}
}

// use makes a ticket invalid. b.mu is held.
func (b *Box[T]) use(t *ticket[T]) {
	if b.unused[t.name] == nil {
		return
	}
	if delete(b.unused, t.name); len(b.unused) == 0 {
		b.unused, b.byUser = nil, nil // to free the memory, which an empty map keeps
	} else if b.byUser[t.user]--; b.byUser[t.user] == 0 {
		delete(b.byUser, t.user)
	}
	var none T
	t.value = none // a used ticket may stay in order for some time
}

// Discard discards the tickets of a user.
func (b *Box[T]) Discard(user string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, t := range b.order {
		if b.byUser[user] == 0 {
			return
		}
		if t.user == user {
			b.use(t)
		}
	}
}

// Take returns the value of a ticket, which is used up. It reports false if there is none that is
// valid.
func (b *Box[T]) Take(name string) (value T, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.unused[name]
	if t == nil {
		return value, false
	}
	value = t.value
	b.use(t)
	return value, time.Now().Before(t.until)
}
