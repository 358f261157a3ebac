package bolt

import (
	"bytes"
	"cmp"
	"fmt"
	"time"

	bbolt "go.etcd.io/bbolt"

	"github.com/realtime-go/realtime/broker"
)

// batch is a set of changes that is written in one transaction. Nothing in memory changes before
// the commit.
type batch struct {
	b   *Broker
	now time.Time
	era uint64

	streams, records, ids, order, cursors, ended *bbolt.Bucket

	states map[*head]*state // of the streams that the batch has read
	dirty  map[*head]struct{}
	wrote  bool  // the batch has changed something
	sync   bool  // the batch must be committed at once
	err    error // the first error of the file

	used [kinds]int64 // the change of the kept bytes
	more [kinds]int   // the change of the number of streams
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

// put and remove change the file. Keys and values must not be changed after the call.
func (bt *batch) put(bucket *bbolt.Bucket, key, value []byte) { bt.note(bucket.Put(key, value)) }
func (bt *batch) remove(bucket *bbolt.Bucket, key []byte)     { bt.note(bucket.Delete(key)) }

func (bt *batch) note(err error) {
	bt.wrote = true
	if bt.err == nil {
		bt.err = err
	}
}

// removeAll removes all entries of a stream from a bucket.
func (bt *batch) removeAll(bucket *bbolt.Bucket, number uint64) {
	bt.removeFrom(bucket, nameKey(number, ""), func(key, _ []byte) bool {
		n, _ := splitKey(key)
		return n == number
	})
}

// removeFrom removes the entries of a bucket, beginning at a key, as long as belongs returns true.
// In a damaged tree an entry may be found but not removed: this is an error.
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

// state returns the state of a stream after the changes of the batch so far. The caller calls mark
// after it changes the state.
func (bt *batch) state(h *head) *state {
	st := bt.states[h]
	if st == nil {
		st = new(h.state)
		bt.states[h] = st
	}
	return st
}

// mark records that the state of a stream has changed.
func (bt *batch) mark(h *head) {
	bt.dirty[h] = struct{}{}
	bt.wrote = true
}

// crowded reports whether no further stream of a kind is allowed, if the batch has already added
// more.
func (bt *batch) crowded(k kind, more int) bool {
	return int(bt.b.streams[k].Load())+more >= bt.b.opts.MaxStreams
}

// begin adds a stream to the file. It returns broker.ErrFull if there are too many.
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

// finish writes the changed states.
func (bt *batch) finish() error {
	for h := range bt.dirty {
		name := []byte(h.name)
		bt.put(bt.streams, name, bt.states[h].value(name))
	}
	return bt.err
}

// adopt takes over the changes into memory, after the commit, or after they have been added to an
// open transaction.
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
