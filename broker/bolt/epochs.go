package bolt

import (
	"crypto/sha256"
	"encoding/binary"

	bbolt "go.etcd.io/bbolt"
)

// epochSlots is how many entries bucketEnded has at most.
const epochSlots = 4096

// epochs determines the epochs of streams that are not in the file, from a seed that is in the
// file. A stream that is only subscribed to must keep its epoch although nothing is stored for its
// name. The epoch must change when a stream that had publications ends. This is recorded in a slot
// that several names share, so the epochs of the other names in the slot change too.
type epochs struct{ seed uint64 }

// of returns the epoch of a stream that is not in the file. It is never zero.
func (e epochs) of(tx *bbolt.Tx, stream string) uint64 {
	data := binary.BigEndian.AppendUint64(nil, e.seed)
	if ended := tx.Bucket([]byte(bucketEnded)); ended != nil {
		data = append(data, ended.Get(slotKey(stream))...)
	}
	hash := sha256.Sum256(append(append(data, 0), stream...))
	return binary.BigEndian.Uint64(hash[:]) | 1
}

// slotKey returns the key of a stream's slot.
func slotKey(stream string) []byte {
	return binary.BigEndian.AppendUint32(nil, sum(nil, []byte(stream))%epochSlots)
}

// end records that a stream has ended.
func (bt *batch) end(stream string) {
	bt.put(bt.ended, slotKey(stream), binary.BigEndian.AppendUint64(nil, draw()))
}
