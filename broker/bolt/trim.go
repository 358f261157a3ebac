package bolt

import bbolt "go.etcd.io/bbolt"

// trim discards what a stream has beyond its bounds, the oldest first.
func (bt *batch) trim(stream string, st *state) {
	for bt.err == nil {
		reason, ok := st.beyond(bt.now)
		if !ok {
			return
		}
		bt.drop(stream, st, reason)
	}
}

// drop discards the oldest publication of a stream.
func (bt *batch) drop(stream string, st *state, reason why) {
	offset := st.floor + 1
	key := offsetKey(st.number, offset)
	r, ok := readRecord(key, bt.records.Get(key))
	if !ok {
		bt.b.damaged(Damage{Stream: stream, Offset: offset, What: "record"})
		bt.cut(st, offset)
		return
	}
	bt.remove(bt.records, key)
	st.floor, st.why = offset, reason
	st.count--
	st.bytes -= int64(r.size)
	bt.used[st.kind] -= int64(r.size)
	if st.count == 0 {
		st.oldest = 0
		return
	}
	next := offsetKey(st.number, offset+1)
	if r, ok := readRecord(next, bt.records.Get(next)); ok {
		st.oldest = r.at
	}
}

// cut discards everything up to an offset at which something is damaged.
func (bt *batch) cut(st *state, offset uint64) {
	bt.removeFrom(bt.records, offsetKey(st.number, 0), func(key, _ []byte) bool {
		at, ok := offsetOf(key, st.number)
		return ok && at <= offset
	})
	st.floor, st.why = max(st.floor, offset), whyDamaged
	bt.recount(st)
}

// belongings returns the buckets whose keys begin with the number of a stream.
func (bt *batch) belongings() []*bbolt.Bucket {
	return []*bbolt.Bucket{bt.records, bt.ids, bt.order, bt.cursors}
}
