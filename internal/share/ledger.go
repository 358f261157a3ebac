// Package share provides a ledger that divides the capacity of a stream between its senders.
//
// It uses dynamic thresholds: a sender may use as much as is free.
package share

import "time"

// EntryBytes is the approximate size of an entry of a Ledger.
const EntryBytes = 32

// Usage is the used part of a stream.
type Usage struct{ Messages, Bytes int64 }

func (u *Usage) add(messages, bytes int64) {
	u.Messages += messages
	u.Bytes += bytes
}

// Bounds are the bounds of a stream. Zero or negative Bytes mean no bound in bytes.
type Bounds struct{ Messages, Bytes int64 }

// HasRoom reports whether the bounds leave room for one more message of a sender, of the given size
// in bytes. The usage of the sender and this message together must not exceed what is free before it. own is the usage of
// the sender, all that of all senders. An empty stream has room for any message.
func (b Bounds) HasRoom(own, all Usage, size int64) bool {
	return all.Messages == 0 || own.Messages+1 <= b.Messages-all.Messages &&
		(b.Bytes <= 0 || own.Bytes+size <= b.Bytes-all.Bytes)
}

// Ledger records the usage of each sender of the messages that wait in a stream. It is for brokers that
// number without gaps: the entry of an offset is found by its distance from the first. A Ledger is not
// safe for concurrent use.
type Ledger[S comparable] struct {
	first    uint64 // the offset of the first entry
	entries  []entry[S]
	accounts map[S]*account[S]
	all      Usage
}

// account is the usage of one sender.
type account[S comparable] struct {
	Usage
	sender S
}

// entry is one waiting message.
type entry[S comparable] struct {
	account *account[S]
	size    int64
	expires int64 // in Unix nanoseconds; zero means never
}

// NewLedger returns an empty Ledger. first is the offset of the first message to be added.
func NewLedger[S comparable](first uint64) *Ledger[S] {
	return &Ledger[S]{first: first, accounts: make(map[S]*account[S])}
}

// Next returns the offset of the next message to be added.
func (l *Ledger[S]) Next() uint64 { return l.first + uint64(len(l.entries)) }

// Len returns the number of entries.
func (l *Ledger[S]) Len() int { return len(l.entries) }

// Add adds the next message. expires is in Unix nanoseconds; zero means never.
func (l *Ledger[S]) Add(sender S, size int, expires int64) {
	a := l.accounts[sender]
	if a == nil {
		a = &account[S]{sender: sender}
		l.accounts[sender] = a
	}
	a.add(1, int64(size))
	l.all.add(1, int64(size))
	l.entries = append(l.entries, entry[S]{a, int64(size), expires})
}

// Pass removes the entries up to and including offset, and then expired entries up to the first
// that has not expired. Expired entries after that one remain, because the order is kept.
func (l *Ledger[S]) Pass(offset uint64, now time.Time) {
	for len(l.entries) > 0 {
		e := l.entries[0]
		if l.first > offset && (e.expires == 0 || e.expires > now.UnixNano()) {
			return
		}
		l.all.add(-1, -e.size)
		if e.account.add(-1, -e.size); e.account.Messages == 0 {
			delete(l.accounts, e.account.sender)
		}
		l.entries, l.first = l.entries[1:], l.first+1
	}
}

// HasRoom reports whether the bounds leave room for one more message of the sender, see
// [Bounds.HasRoom].
func (l *Ledger[S]) HasRoom(sender S, size int, b Bounds) bool {
	var own Usage
	if a := l.accounts[sender]; a != nil {
		own = a.Usage
	}
	return b.HasRoom(own, l.all, int64(size))
}

// Expiry returns the time at which a message expires, in Unix nanoseconds, or zero for never. at is
// the time of publishing, ttl the time to live of the message, and age the maximum age in the
// stream. Zero or negative durations mean no bound.
func Expiry(at int64, ttl, age time.Duration) int64 {
	if ttl <= 0 || age > 0 && age < ttl {
		ttl = age
	}
	if ttl <= 0 || at+int64(ttl) < at {
		return 0
	}
	return at + int64(ttl)
}
