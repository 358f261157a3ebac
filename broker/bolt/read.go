package bolt

import (
	"context"
	"fmt"
	"time"

	bbolt "go.etcd.io/bbolt"

	"github.com/realtime-go/realtime/broker"
)

// Read returns a part of a stream. If it finds a damaged publication, it discards that one and all
// older ones, and reads again.
func (b *Broker) Read(ctx context.Context, stream string, q broker.Query) (broker.Page, error) {
	if err := b.err(ctx); err != nil {
		return broker.Page{}, err
	}
	h, err := b.acquire(stream)
	if err != nil {
		return broker.Page{}, err
	}
	defer b.cache.unpin(h)
	for {
		r := reading{stream: stream, q: q.Resolved(), clock: &b.clock, now: b.clock.now()}
		there := false
		if r.page.Top, there = h.position(); !there {
			return r.page, nil
		}
		if err := b.store.view(r.read); err != nil {
			return broker.Page{}, err
		}
		if r.broken == 0 {
			return r.page, nil
		}
		if err := b.discardDamaged(ctx, h, r.broken); err != nil {
			return broker.Page{}, err
		}
	}
}

// discardDamaged discards the publications of a stream up to a damaged one.
func (b *Broker) discardDamaged(ctx context.Context, h *head, offset uint64) error {
	b.cache.again(h)
	return b.submit(ctx, &task{heads: []*head{h}, do: func(bt *batch) error {
		st := bt.state(h)
		if st.number == 0 || offset <= st.floor || offset > st.top {
			return nil // another task has already discarded it
		}
		bt.mend(h.name, st)
		bt.mark(h)
		return nil
	}})
}

// reading is one call of Read or Cursor.
type reading struct {
	stream string
	q      broker.Query
	clock  *clock
	now    time.Time
	page   broker.Page
	broken uint64 // offset of a publication that cannot be read

	records *bbolt.Cursor
	number  uint64
	bytes   int
}

// read fills in the page. Records after page.Top are not delivered yet, or never will be.
func (r *reading) read(tx *bbolt.Tx) error {
	name := []byte(r.stream)
	st, ok := readState(name, tx.Bucket([]byte(bucketStreams)).Get(name))
	if !ok || st.number == 0 {
		return fmt.Errorf("%w: state of a stream", ErrDamaged)
	}
	r.records, r.number = tx.Bucket([]byte(bucketRecords)).Cursor(), st.number
	floor, why := r.floor(&st)
	r.page.Floor = min(floor, r.page.Top.Offset)
	if r.page.Floor > 0 {
		r.page.Why = why.reason()
	}
	from, to := max(r.q.After, r.page.Floor)+1, r.page.Top.Offset
	if r.q.Before > 0 {
		to = min(to, r.q.Before-1)
	}
	if r.q.Backwards {
		return r.backwards(from, to)
	}
	return r.forwards(from, to)
}

// floor returns the offset before the first kept publication. It also skips expired publications
// that the sweeper has not discarded yet.
func (r *reading) floor(st *state) (floor uint64, why why) {
	floor, why = st.floor, st.why
	if st.keep.Age <= 0 {
		return floor, why
	}
	for ; floor < r.page.Top.Offset; floor++ {
		rec, ok := r.seek(floor + 1)
		if !ok || r.now.UnixNano()-rec.at < int64(st.keep.Age) {
			break // damage is reported when the record is read
		}
		why = whyExpired
	}
	return floor, why
}

// seek returns the record at an offset.
func (r *reading) seek(offset uint64) (record, bool) {
	want := offsetKey(r.number, offset)
	key, value := r.records.Seek(want)
	if at, ok := offsetOf(key, r.number); !ok || at != offset {
		return record{}, false
	}
	return readRecord(want, value)
}

func (r *reading) forwards(from, to uint64) error {
	if from > to {
		return nil
	}
	key, value := r.records.Seek(offsetKey(r.number, from))
	for offset := from; offset <= to; offset++ {
		if more, err := r.take(offset, key, value); !more {
			return err
		}
		key, value = r.records.Next()
	}
	return nil
}

func (r *reading) backwards(from, to uint64) error {
	if from > to {
		return nil
	}
	key, value := r.records.Seek(offsetKey(r.number, to))
	for offset := to; offset >= from; offset-- {
		if more, err := r.take(offset, key, value); !more {
			return err
		}
		key, value = r.records.Prev()
	}
	return nil
}

// take adds a record to the page, and reports whether to continue.
func (r *reading) take(offset uint64, key, value []byte) (more bool, err error) {
	at, ok := offsetOf(key, r.number)
	var rec record
	if ok = ok && at == offset; ok {
		rec, ok = readRecord(key, value)
	}
	if !ok {
		r.broken = offset
		return false, nil
	}
	if rec.expired(r.now) {
		return true, nil
	}
	n := len(r.page.Publications)
	if n >= r.q.Limit || n > 0 && r.bytes+rec.size > r.q.Bytes {
		r.page.More = true
		return false, nil
	}
	p, err := rec.publication()
	if err != nil {
		return false, err
	}
	p.Stream, p.At = r.stream, r.clock.outside(rec.at)
	p.Position = broker.Position{Epoch: r.page.Top.Epoch, Offset: offset}
	p.Prev = offset - 1
	r.bytes += rec.size
	r.page.Publications = append(r.page.Publications, p)
	return true, nil
}
