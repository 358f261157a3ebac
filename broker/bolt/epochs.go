package bolt

import (
	"crypto/sha256"
	"encoding/binary"

	bbolt "go.etcd.io/bbolt"
)

// epochSlots is how many entries bucketEnded has at most.
const epochSlots = 4096

// epochs tell the epoch of a stream that the file does not have, from a seed that it has. Nothing
// is kept for the name of a stream that is only subscribed to, and its epoch stays the same
// nevertheless. It has to change when a stream ends that had publications. That is noted for a slot
// that some names share, so another name of the slot gets another epoch too.
type epochs struct{ seed uint64 }

// of returns the epoch of a stream that is not in the file: never zero.
func (e epochs) of(tx *bbolt.Tx, stream string) uint64 {
	data := binary.BigEndian.AppendUint64(nil, e.seed)
	if ended := tx.Bucket([]byte(bucketEnded)); ended != nil {
		data = append(data, ended.Get(slotKey(stream))...)
	}
	hash := sha256.Sum256(append(append(data, 0), stream...))
	return binary.BigEndian.Uint64(hash[:]) | 1
}

// slotKey is the key of a stream's slot.
func slotKey(stream string) []byte {
	return binary.BigEndian.AppendUint32(nil, sum(nil, []byte(stream))%epochSlots)
}

// end notes that a stream has ended.
func (bt *batch) end(stream string) {
	bt.put(bt.ended, slotKey(stream), binary.BigEndian.AppendUint64(nil, draw()))
}
