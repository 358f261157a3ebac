package bolt

import (
	"time"

	"github.com/realtime-go/realtime"
)

// maxLedger is how many entries all ledgers have together, at 24 bytes each. Beyond it all are
// forgotten: they are made anew from the file.
const maxLedger = 1 << 19

// sender is what shares a stream with others.
type sender struct{ user, guest string }

func senderOf(m *realtime.Message) sender { return sender{m.Sender, m.Guest} }

// usage is how much of a stream is taken.
type usage struct{ messages, bytes int64 }

func (u *usage) add(messages, bytes int64) { u.messages, u.bytes = u.messages+messages, u.bytes+bytes }

// account is what one sender has.
type account struct {
	usage
	by sender
}

// leaves reports whether a sender that has own of all may have one more publication: what it has
// then must not be more than what is free now.
func (u *usage) leaves(own usage, size int, keep *realtime.Retention) bool {
	return u.messages == 0 || own.messages+1 <= int64(keep.Messages)-u.messages &&
		(keep.Bytes <= 0 || own.bytes+int64(size) <= int64(keep.Bytes)-u.bytes)
}

// ledger says which sender has how much of what waits in a stream. It is the writer's, and made
// when a stream is half full.
type ledger struct {
	number  uint64 // of the stream
	first   uint64 // the offset of the first entry
	entries []waiting
	of      map[sender]*account
	all     usage
}

// waiting is one publication that waits.
type waiting struct {
	by    *account // its sender's
	size  int64
	until int64 // when it expires, in Unix nanoseconds. Zero: never
}

func (l *ledger) add(by sender, size int, until int64) {
	u := l.of[by]
	if u == nil {
		u = &account{by: by}
		l.of[by] = u
	}
	u.add(1, int64(size))
	l.all.add(1, int64(size))
	l.entries = append(l.entries, waiting{u, int64(size), until})
}

// pass takes out what is not behind an offset, and then what has expired, up to the first that
// has not: what is behind that could not go without it.
func (l *ledger) pass(offset uint64, now time.Time) {
	for len(l.entries) > 0 {
		e := l.entries[0]
		if l.first > offset && (e.until == 0 || e.until > now.UnixNano()) {
			return
		}
		if e.by.add(-1, -e.size); e.by.messages == 0 {
			delete(l.of, e.by.by)
		}
		l.all.add(-1, -e.size)
		l.entries, l.first = l.entries[1:], l.first+1
	}
}

// expiry returns when a publication expires that was taken at a time, zero for never.
func expiry(at int64, ttl, age time.Duration) int64 {
	if ttl <= 0 || age > 0 && age < ttl {
		ttl = age
	}
	if ttl <= 0 || at+int64(ttl) < at {
		return 0
	}
	return at + int64(ttl)
}

// hasShare reports whether p's sender may have one more in the stream. As long as the stream is not
// half full, it may, whoever it is.
func (bt *batch) hasShare(h *head, st *state, p *realtime.Publication) bool {
	by, size := senderOf(&p.Message), p.Size()
	kept := usage{st.count, st.bytes}
	if !p.Shared || kept.leaves(kept, size, &p.Keep) {
		return true
	}
	l := bt.ledger(h, st)
	own := func() (u usage) {
		if mine := l.of[by]; mine != nil {
			u = mine.usage
		}
		return u
	}
	l.pass(st.floor, bt.now)
	if l.all.leaves(own(), size, &p.Keep) {
		return true
	}
	l.pass(bt.acked(h.name, st), bt.now)
	return l.all.leaves(own(), size, &p.Keep)
}

// ledger returns the ledger of a stream, and makes it if there is none.
func (bt *batch) ledger(h *head, st *state) *ledger {
	b := bt.b
	l := b.ledgers[h]
	if l != nil && l.number == st.number && l.first+uint64(len(l.entries)) == st.top+1 {
		return l
	}
	l = &ledger{number: st.number, first: st.floor + 1, of: map[sender]*account{}}
	for offset := l.first; offset <= st.top; offset++ {
		key := offsetKey(st.number, offset)
		r, ok := readRecord(key, bt.records.Get(key))
		if !ok { // it is found when it is read
			l.add(sender{}, 0, 0)
			continue
		}
		p, _ := r.publication()
		l.add(senderOf(&p.Message), r.size, expiry(r.at, r.ttl, st.keep.Age))
	}
	if b.entries += len(l.entries); b.entries > maxLedger {
		b.forgetLedgers()
		b.entries = len(l.entries)
	}
	b.ledgers[h] = l
	return l
}

// enter notes what was put into a stream.
func (bt *batch) enter(h *head, st *state, p *realtime.Publication, size int) {
	if l := bt.b.ledgers[h]; l != nil {
		l.add(senderOf(&p.Message), size, expiry(st.used, p.Message.TTL, p.Keep.Age))
		bt.b.entries++
	}
}

// acked returns up to which offset all readers of a stream have acknowledged.
func (bt *batch) acked(stream string, st *state) (offset uint64) {
	c := bt.cursors.Cursor()
	n := 0
	for key, value := c.Seek(nameKey(st.number, "")); ; key, value = c.Next() {
		if at, _ := splitKey(key); key == nil || at != st.number {
			return offset
		}
		if at, _ := bt.b.readCursor(stream, key, value); n == 0 || at < offset {
			offset = at
		}
		n++
	}
}

// forgetLedgers makes all ledgers be made anew: what they say was not committed, or they are too
// many.
func (b *Broker) forgetLedgers() { b.ledgers, b.entries = map[*head]*ledger{}, 0 }
