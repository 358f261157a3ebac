// Package share divides what a stream may keep among those who send to it, by dynamic thresholds: a
// sender may have as much as is free.
package share

import "time"

// EntryBytes is about how much memory a Ledger takes for an entry.
const EntryBytes = 32

// Usage is how much of a stream is taken.
type Usage struct{ Messages, Bytes int64 }

func (u *Usage) add(messages, bytes int64) {
	u.Messages += messages
	u.Bytes += bytes
}

// Bounds are those of a stream. Bytes of zero are without bound.
type Bounds struct{ Messages, Bytes int64 }

// Leaves reports whether a sender that has own of all may have one more message of a size: what it
// has then must not be more than what is free now.
func (b Bounds) Leaves(own, all Usage, size int64) bool {
	return all.Messages == 0 || own.Messages+1 <= b.Messages-all.Messages &&
		(b.Bytes <= 0 || own.Bytes+size <= b.Bytes-all.Bytes)
}

// Ledger says which sender has how much of what waits in a stream whose offsets are dense. It is
// not safe for concurrent use.
type Ledger[S comparable] struct {
	first   uint64 // the offset of the first entry
	entries []entry[S]
	of      map[S]*account[S]
	all     Usage
}

// account is what one sender has.
type account[S comparable] struct {
	Usage
	by S
}

// entry is one message that waits.
type entry[S comparable] struct {
	by    *account[S]
	size  int64
	until int64 // when it expires, in Unix nanoseconds. Zero: never
}

// NewLedger returns the ledger of a stream in which nothing waits and first is the next offset.
func NewLedger[S comparable](first uint64) *Ledger[S] {
	return &Ledger[S]{first: first, of: make(map[S]*account[S])}
}

// Next returns the offset of what is to be added.
func (l *Ledger[S]) Next() uint64 { return l.first + uint64(len(l.entries)) }

// Len returns how many entries there are.
func (l *Ledger[S]) Len() int { return len(l.entries) }

// Add notes the next message, and when it expires, in Unix nanoseconds; zero is never.
func (l *Ledger[S]) Add(by S, size int, until int64) {
	a := l.of[by]
	if a == nil {
		a = &account[S]{by: by}
		l.of[by] = a
	}
	a.add(1, int64(size))
	l.all.add(1, int64(size))
	l.entries = append(l.entries, entry[S]{a, int64(size), until})
}

// Pass takes out what is not behind an offset, and then what has expired, up to the first that has
// not: what is behind that could not go without it.
func (l *Ledger[S]) Pass(offset uint64, now time.Time) {
	for len(l.entries) > 0 {
		e := l.entries[0]
		if l.first > offset && (e.until == 0 || e.until > now.UnixNano()) {
			return
		}
		l.all.add(-1, -e.size)
		if e.by.add(-1, -e.size); e.by.Messages == 0 {
			delete(l.of, e.by.by)
		}
		l.entries, l.first = l.entries[1:], l.first+1
	}
}

// Leaves reports whether a sender may have one more message of a size.
func (l *Ledger[S]) Leaves(by S, size int, b Bounds) bool {
	var own Usage
	if a := l.of[by]; a != nil {
		own = a.Usage
	}
	return b.Leaves(own, l.all, int64(size))
}

// Expiry returns when a message expires that was taken at a time, in Unix nanoseconds, and has a
// time to live in a stream that keeps for an age. Zero is without bound, and never.
func Expiry(at int64, ttl, age time.Duration) int64 {
	if ttl <= 0 || age > 0 && age < ttl {
		ttl = age
	}
	if ttl <= 0 || at+int64(ttl) < at {
		return 0
	}
	return at + int64(ttl)
}
