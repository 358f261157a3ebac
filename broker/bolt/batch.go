package bolt

import (
	"bytes"
	"cmp"
	"fmt"
	"time"

	bbolt "go.etcd.io/bbolt"

	"github.com/realtime-go/realtime/broker"
)

// batch is what is written at once. Nothing in memory changes before it is committed.
type batch struct {
	b   *Broker
	now time.Time
	era uint64

	streams, records, ids, order, cursors, ended *bbolt.Bucket

	states map[*head]*state // of streams that were looked at
	dirty  map[*head]struct{}
	wrote  bool  // anything
	sync   bool  // it may not wait for others
	err    error // the first of the file

	used [kinds]int64 // by how much more is kept
	more [kinds]int   // how many more streams there are
}

func (b *Broker) newBatch(tx *bbolt.Tx) *batch {
	bucket := func(name string) *bbolt.Bucket { return tx.Bucket([]byte(name)) }
	return &batch{
		b: b, now: b.clock.now(), era: b.era.Load(),
		streams: bucket(bucketStreams), records: bucket(bucketRecords),
		ids: bucket(bucketIDs), order: bucket(bucketOrder), cursors: bucket(bucketCursors),
		ended:  bucket(bucketEnded),
		states: map[*head]*state{}, dirty: map[*head]struct{}{},
	}
}

// put and remove change the file. Keys and values must not be changed afterwards.
func (bt *batch) put(bucket *bbolt.Bucket, key, value []byte) { bt.note(bucket.Put(key, value)) }
func (bt *batch) remove(bucket *bbolt.Bucket, key []byte)     { bt.note(bucket.Delete(key)) }

func (bt *batch) note(err error) {
	bt.wrote = true
	if bt.err == nil {
		bt.err = err
	}
}

// removeAll removes everything of a stream from a bucket.
func (bt *batch) removeAll(bucket *bbolt.Bucket, number uint64) {
	bt.removeFrom(bucket, nameKey(number, ""), func(key, _ []byte) bool {
		n, _ := splitKey(key)
		return n == number
	})
}

// removeFrom removes the entries of a bucket from a key on, until one does not belong to them. In a
// tree that is damaged an entry may be found and not removed: then it is an error.
func (bt *batch) removeFrom(
	bucket *bbolt.Bucket, from []byte, belongs func(key, value []byte) bool,
) {
	var last []byte
	for bt.err == nil {
		key, value := bucket.Cursor().Seek(from)
		switch {
		case key == nil || !belongs(key, value):
			return
		case bytes.Equal(key, last):
			bt.note(fmt.Errorf("%w: an entry cannot be removed", ErrDamaged))
			return
		}
		last = bytes.Clone(key)
		bt.remove(bucket, last)
	}
}

// state returns the state of a stream as the batch has left it. What is changed there must be
// marked.
func (bt *batch) state(h *head) *state {
	st := bt.states[h]
	if st == nil {
		st = new(h.state)
		bt.states[h] = st
	}
	return st
}

// mark says that a stream's state has changed.
func (bt *batch) mark(h *head) {
	bt.dirty[h] = struct{}{}
	bt.wrote = true
}

// crowded reports whether there may be no more streams of a kind, when there are so many more than
// before the batch.
func (bt *batch) crowded(k kind, more int) bool {
	return int(bt.b.streams[k].Load())+more >= bt.b.opts.MaxStreams
}

// begin puts a stream into the file. It returns broker.ErrFull if there are too many.
func (bt *batch) begin(h *head) error {
	st := bt.state(h)
	if bt.crowded(st.kind, bt.more[st.kind]) {
		return broker.ErrFull
	}
	number, err := bt.streams.NextSequence()
	if err != nil {
		bt.note(err)
		return err
	}
	*st = state{
		number: number, epoch: cmp.Or(st.epoch, draw()), used: bt.now.UnixNano(), kind: st.kind,
	}
	for reader := range h.readers {
		key := nameKey(number, reader)
		bt.put(bt.cursors, key, sealNumber(key, 0))
	}
	bt.more[st.kind]++
	bt.mark(h)
	return nil
}

// finish writes the states that have changed.
func (bt *batch) finish() error {
	for h := range bt.dirty {
		name := []byte(h.name)
		bt.put(bt.streams, name, bt.states[h].value(name))
	}
	return bt.err
}

// adopt makes what was committed, or waits in an open transaction, what the writer knows.
func (bt *batch) adopt() {
	for h := range bt.dirty {
		h.state = *bt.states[h]
		if h.state.number != 0 {
			h.readers = nil
			h.begun.Store(true)
		}
	}
	for k := range kinds {
		bt.b.used[k] += bt.used[k]
		bt.b.streams[k].Add(int64(bt.more[k]))
	}
}
