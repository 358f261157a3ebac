package bolt

import (
	"encoding/binary"
	"hash/crc32"
)

// sumBytes is the length of a checksum, which stands before its payload.
const sumBytes = 4

// castagnoli returns the table of the polynomial that processors support. Package crc32 makes the
// table only once.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// sum includes the key, so that a value under a wrong key also counts as damaged.
func sum(key, payload []byte) uint32 {
	table := castagnoli()
	return crc32.Update(crc32.Checksum(key, table), table, payload)
}

// seal writes the checksum into the first sumBytes of value, which are reserved for it, and returns
// value.
func seal(key, value []byte) []byte {
	binary.BigEndian.PutUint32(value, sum(key, value[sumBytes:]))
	return value
}

// unseal returns the payload after the checksum. It reports false if the checksum is wrong. It
// copies nothing.
func unseal(key, value []byte) ([]byte, bool) {
	if len(value) < sumBytes {
		return nil, false
	}
	payload := value[sumBytes:]
	return payload, binary.BigEndian.Uint32(value) == sum(key, payload)
}

// sealNumber and unsealNumber are seal and unseal for a value that is one number.
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
