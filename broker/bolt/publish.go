package bolt

import (
	"context"
	"time"

	"github.com/realtime-go/realtime"
)

// Publish keeps a publication and delivers it, if it has a stream, and else only delivers it. It
// returns when it is on the disk, unless there is a LossWindow. It returns realtime.ErrFull if it
// would be more than the options allow, realtime.ErrName for names of more than 32,000 bytes, and
// errors of the file.
func (b *Broker) Publish(ctx context.Context, p realtime.Publication) (realtime.Published, error) {
	if p.Stream == "" {
		return realtime.Published{}, b.pass(ctx, p)
	}
	if err := checkKey("message id", len(p.Message.Sender)+len(p.Message.ID)); err != nil {
		return realtime.Published{}, err
	}
	if err := b.err(ctx); err != nil {
		return realtime.Published{}, err
	}
	value, err := newRecord(&p)
	if err != nil {
		return realtime.Published{}, err
	}
	h, err := b.acquire(p.Stream)
	if err != nil {
		return realtime.Published{}, err
	}
	w := &publishing{b: b, head: h, p: p, value: value}
	if err := b.submit(ctx, &task{head: h, size: len(value), do: w.do, land: w.land}); err != nil {
		return realtime.Published{}, err
	}
	return w.result, nil
}

// pass delivers what is not kept.
func (b *Broker) pass(ctx context.Context, p realtime.Publication) error {
	b.carry.Lock()
	defer b.carry.Unlock()
	if err := b.err(ctx); err != nil {
		return err
	}
	p.At = time.Now()
	b.deliver(p)
	return nil
}

// publishing is a publication on its way into the file and from there to the Sink.
type publishing struct {
	b      *Broker
	head   *head
	p      realtime.Publication
	value  []byte // its record
	result realtime.Published
}

// do runs in the writer.
func (w *publishing) do(bt *batch) error {
	st := bt.state(w.head)
	if offset, ok := bt.known(st, &w.p.Message); ok {
		w.result = realtime.Published{Position: st.position(bt.era, offset), Duplicate: true}
		return nil
	}
	size := w.p.Size()
	used := bt.b.used[st.kind] + bt.used[st.kind] + int64(size)
	if used > bt.b.opts.MaxBytes && !st.atBounds(size, w.p.Keep) {
		return realtime.ErrFull
	}
	if st.number == 0 {
		if err := bt.begin(w.head); err != nil {
			return err
		}
	}
	w.put(bt, st, size)
	bt.trim(w.head.name, st)
	bt.mark(w.head)
	return nil
}

// put writes the record and the id, and moves the stream on.
func (w *publishing) put(bt *batch, st *state, size int) {
	st.top++
	st.used, st.keep = bt.now.UnixNano(), w.p.Keep
	if st.count == 0 {
		st.oldest = st.used
	}
	st.count++
	st.bytes += int64(size)
	bt.used[st.kind] += int64(size)
	key := offsetKey(st.number, st.top)
	bt.put(bt.records, key, stamp(key, w.value, bt.now))
	bt.remember(st, &w.p.Message)
	bt.expireIDs(st, idsAtOnce)
	w.p.At = bt.b.clock.outside(st.used)
	w.p.Position, w.p.Prev = st.position(bt.era, st.top), st.top-1
	w.result = realtime.Published{Position: w.p.Position, Prev: w.p.Prev}
}

// land runs in the order of the positions. The stream is locked so that Unsubscribe can wait.
func (w *publishing) land() {
	if w.result.Duplicate {
		w.b.stats.duplicates.Add(1)
		return
	}
	w.b.stats.published.Add(1)
	h := w.head
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen, h.there = w.p.Position, true
	if h.subs > 0 {
		w.b.deliver(w.p)
	}
}
