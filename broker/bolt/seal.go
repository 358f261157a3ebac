package bolt

import (
	"encoding/binary"
	"hash/crc32"
)

// sumBytes is how much a checksum takes in front of what it is of.
const sumBytes = 4

// castagnoli returns the table of the polynomial that processors know. It is made once by the
// package that returns it.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// sum is over the key too, so that a value under another key is as damaged as another value.
func sum(key, payload []byte) uint32 {
	table := castagnoli()
	return crc32.Update(crc32.Checksum(key, table), table, payload)
}

// seal writes the checksum into value, whose first sumBytes are reserved for it, and returns value.
func seal(key, value []byte) []byte {
	binary.BigEndian.PutUint32(value, sum(key, value[sumBytes:]))
	return value
}

// unseal returns what is behind the checksum, or reports false if that is wrong. It copies nothing.
func unseal(key, value []byte) ([]byte, bool) {
	if len(value) < sumBytes {
		return nil, false
	}
	payload := value[sumBytes:]
	return payload, binary.BigEndian.Uint32(value) == sum(key, payload)
}

// sealNumber and unsealNumber are for values that are one number.
func sealNumber(key []byte, n uint64) []byte {
	return seal(key, binary.BigEndian.AppendUint64(make([]byte, sumBytes, sumBytes+8), n))
}

func unsealNumber(key, value []byte) (uint64, bool) {
	p, ok := unseal(key, value)
	if !ok || len(p) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(p), true
}
