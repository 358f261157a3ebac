package bolt

import (
	"bytes"

	"github.com/realtime-go/realtime/broker"
)

// suspect records the streams of a batch that is not, or not certainly, in the file.
func (b *Broker) suspect(bt *batch) {
	for h := range bt.dirty {
		if _, known := b.suspects[h]; !known {
			b.cache.again(h)
			b.suspects[h] = struct{}{}
		}
	}
}

// trust clears the record: the file agrees with memory.
func (b *Broker) trust() {
	for h := range b.suspects {
		delete(b.suspects, h)
		b.cache.unpin(h)
	}
}

// restore makes the file and memory agree again after a failure, as part of the next batch. It may
// return a task that reports losses.
//
// Without a LossWindow memory is right: it has what was acknowledged and delivered, and the file
// may contain one more batch, which nobody knows of. With a LossWindow the file is right: what it
// does not contain is lost.
func (b *Broker) restore(bt *batch) *task {
	if !b.broken {
		return nil
	}
	if b.opts.LossWindow != 0 {
		return b.forfeit(bt)
	}
	for h := range b.suspects {
		bt.repair(h)
	}
	return nil
}

// forfeit resets the streams with losses to their state in the file, with new epochs.
func (b *Broker) forfeit(bt *batch) *task {
	told := map[*head]broker.Position{}
	for h := range b.suspects {
		name := []byte(h.name)
		st, _ := readState(name, bt.streams.Get(name))
		bt.used[st.kind] += st.bytes - h.state.bytes
		bt.more[st.kind] += present(&st) - present(&h.state)
		if *bt.state(h) = st; st.number != 0 {
			bt.state(h).epoch = draw()
			bt.mark(h)
		} else if err := bt.begin(h); err != nil {
			continue // too many streams, or an error in bt.err
		}
		told[h] = bt.state(h).position(bt.era, bt.state(h).top)
	}
	t := &task{done: make(chan error, 1)}
	t.committed = func() error { // pinned, they cannot be claimed and block land
		for h := range told {
			b.cache.again(h)
		}
		return nil
	}
	t.land = func() {
		for h, at := range told {
			b.reportLoss(h, at)
			b.cache.unpin(h)
		}
	}
	return t
}

// reportLoss reports the new position of a stream that has lost publications.
func (b *Broker) reportLoss(h *head, at broker.Position) {
	h.mu.Lock()
	h.seen, h.there = at, true
	listens := h.subs > 0
	h.mu.Unlock()
	if listens {
		b.lost(h.name)
	}
}

// repair removes publications from a stream that nobody knows of.
func (bt *batch) repair(h *head) {
	name := []byte(h.name)
	was, ok := readState(name, bt.streams.Get(name))
	if ok && was.number != 0 && was.number != h.state.number {
		bt.removeStream(was.number)
	}
	if h.state.number == 0 {
		bt.remove(bt.streams, name)
		return
	}
	st := bt.state(h)
	bt.cutAbove(st, st.top)
	if ok && was.number == st.number && was.floor > st.floor { // removals in the file stay
		st.floor, st.why = min(was.floor, st.top), was.why
	}
	bt.recount(st)
	bt.mark(h)
}

// cutAbove removes the records after an offset, and their ids.
func (bt *batch) cutAbove(st *state, top uint64) {
	bt.removeFrom(bt.records, offsetKey(st.number, top+1), func(key, _ []byte) bool {
		_, ok := offsetOf(key, st.number)
		return ok
	})
	bt.removeFrom(bt.order, offsetKey(st.number, top+1), func(key, value []byte) bool {
		_, ok := offsetOf(key, st.number)
		if ok {
			bt.forgetID(st, bytes.Clone(key), value)
		}
		return ok
	})
}

// recount counts the kept publications and ids of a stream.
func (bt *batch) recount(st *state) {
	before := st.bytes
	st.count, st.bytes, st.oldest = 0, 0, 0
	c := bt.records.Cursor()
	for key, value := c.Seek(offsetKey(st.number, st.floor+1)); ; key, value = c.Next() {
		if at, ok := offsetOf(key, st.number); !ok || at > st.top {
			break
		}
		st.count++
		if r, ok := readRecord(key, value); ok {
			st.bytes += int64(r.size)
			if st.oldest == 0 {
				st.oldest = r.at
			}
		}
	}
	bt.used[st.kind] += st.bytes - before
	st.ids = 0
	c = bt.order.Cursor()
	for key, _ := c.Seek(nameKey(st.number, "")); ; key, _ = c.Next() {
		if _, ok := offsetOf(key, st.number); !ok {
			return
		}
		st.ids++
	}
}

// removeStream removes all entries with the number of a stream.
func (bt *batch) removeStream(number uint64) {
	for _, bucket := range bt.belongings() {
		bt.removeAll(bucket, number)
	}
}

// present returns 1 if the stream is in the file, otherwise 0.
func present(st *state) int {
	if st.number == 0 {
		return 0
	}
	return 1
}
