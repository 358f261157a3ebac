package bolt

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/realtime-go/realtime/broker"
)

// Publish keeps the parts of a message that have a stream, and delivers all parts. It returns when
// all are on disk, unless there is a LossWindow; either all are kept or none. It returns
// broker.ErrFull beyond the bounds of the options, broker.ErrInvalidName for names of more than
// 32,000 bytes, and errors of the file.
func (b *Broker) Publish(
	ctx context.Context, parts ...broker.Publication,
) ([]broker.Published, error) {
	if err := b.err(ctx); err != nil {
		return nil, err
	}
	w := &publishing{b: b, parts: make([]part, len(parts))}
	t := &task{do: w.do, land: w.land}
	for i := range parts {
		pt := &w.parts[i]
		if pt.p = parts[i]; pt.p.Stream == "" {
			continue
		}
		h, size, err := b.prepare(pt)
		if err == nil && slices.Contains(t.heads, h) {
			b.cache.unpin(h)
			err = fmt.Errorf("bolt: two parts of a message in stream %q", h.name)
		}
		if err != nil {
			b.release(t)
			return nil, err
		}
		t.heads, t.size = append(t.heads, h), t.size+size
	}
	if len(t.heads) == 0 {
		return make([]broker.Published, len(parts)), b.deliverUnkept(ctx, parts)
	}
	if err := b.submit(ctx, t); err != nil {
		return nil, err
	}
	out := make([]broker.Published, len(parts))
	for i := range w.parts {
		out[i] = w.parts[i].result
	}
	return out, nil
}

// prepare makes the record of a part and pins the head of its stream. It returns the number of
// bytes to write.
func (b *Broker) prepare(pt *part) (h *head, size int, err error) {
	m := &pt.p.Message
	if err := checkKey("message id", len(m.Sender)+len(m.Guest)+len(m.ID)); err != nil {
		return nil, 0, err
	}
	if pt.value, err = newRecord(&pt.p); err != nil {
		return nil, 0, err
	}
	pt.head, err = b.acquire(pt.p.Stream)
	return pt.head, len(pt.value), err
}

// deliverUnkept delivers publications without a stream.
func (b *Broker) deliverUnkept(ctx context.Context, parts []broker.Publication) error {
	b.carry.Lock()
	defer b.carry.Unlock()
	if err := b.err(ctx); err != nil {
		return err
	}
	for i := range parts {
		parts[i].At = time.Now()
		b.deliver(parts[i])
	}
	return nil
}

// publishing is a message on its way to the file and then to the Sink.
type publishing struct {
	b     *Broker
	parts []part
}

// part is one publication of a message.
type part struct {
	p      broker.Publication
	head   *head  // nil: the part is only delivered
	value  []byte // its record
	result broker.Published
}

// do runs in the writer. It checks all parts before it writes any.
func (w *publishing) do(bt *batch) error {
	used, more := bt.used, bt.more
	for i := range w.parts {
		pt := &w.parts[i]
		if pt.head == nil {
			continue
		}
		st := bt.state(pt.head)
		if offset, ok := bt.known(st, &pt.p.Message); ok {
			pt.result = broker.Published{Position: st.position(bt.era, offset), Duplicate: true}
			continue
		}
		if pt.p.Shared && !bt.hasShare(pt.head, st, &pt.p) {
			pt.result = broker.Published{Full: true}
			continue
		}
		size := pt.p.Size()
		used[st.kind] += int64(size)
		if bt.b.used[st.kind]+used[st.kind] > bt.b.opts.MaxBytes && !st.atBounds(size, pt.p.Keep) {
			return broker.ErrFull
		}
		if st.number == 0 {
			if bt.crowded(st.kind, more[st.kind]) {
				return broker.ErrFull
			}
			more[st.kind]++
		}
	}
	for i := range w.parts {
		if pt := &w.parts[i]; pt.head != nil && !pt.result.Duplicate && !pt.result.Full {
			if err := pt.put(bt); err != nil {
				return err
			}
		}
	}
	return nil
}

// put writes the record and the id of a part, and advances the stream.
func (pt *part) put(bt *batch) error {
	st, size := bt.state(pt.head), pt.p.Size()
	if st.number == 0 {
		if err := bt.begin(pt.head); err != nil {
			return err
		}
	}
	st.top++
	st.used, st.keep = bt.now.UnixNano(), pt.p.Keep
	if st.count == 0 {
		st.oldest = st.used
	}
	st.count++
	st.bytes += int64(size)
	bt.used[st.kind] += int64(size)
	key := offsetKey(st.number, st.top)
	bt.put(bt.records, key, stamp(key, pt.value, bt.now))
	bt.remember(st, &pt.p.Message)
	bt.expireIDs(st, idsAtOnce)
	bt.addToLedger(pt.head, st, &pt.p, size)
	pt.p.At = bt.b.clock.outside(st.used)
	pt.p.Position, pt.p.Prev = st.position(bt.era, st.top), st.top-1
	pt.result = broker.Published{Position: pt.p.Position}
	bt.trim(pt.head.name, st)
	bt.mark(pt.head)
	return nil
}

// land delivers the parts. It runs in the order of the positions, and no other delivery runs at the
// same time.
func (w *publishing) land() {
	for i := range w.parts {
		pt := &w.parts[i]
		switch {
		case pt.head == nil:
			w.b.carry.Lock()
			pt.p.At = time.Now()
			w.b.deliver(pt.p)
			w.b.carry.Unlock()
		case pt.result.Duplicate:
			w.b.stats.duplicates.Add(1)
		case pt.result.Full:
		default:
			w.b.stats.published.Add(1)
			pt.land(w.b)
		}
	}
}

// land delivers a part. It locks the stream so that Unsubscribe can wait for it.
func (pt *part) land(b *Broker) {
	h := pt.head
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen, h.there = pt.p.Position, true
	if h.subs > 0 {
		b.deliver(pt.p)
	}
}
