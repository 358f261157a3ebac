package bolt

import (
	"encoding/binary"
	"fmt"

	bbolt "go.etcd.io/bbolt"

	"github.com/realtime-go/realtime/broker"
)

// The buckets. The name of a stream is a key only in the bucket of streams, and it is the whole
// key. In the other buckets the stream is a number of eight bytes, so that no name can be part of
// the key of another.
const (
	bucketMeta    = "realtime" // "version", "header"
	bucketStreams = "streams"  // name: its state
	bucketRecords = "records"  // number, offset: a publication
	bucketIDs     = "ids"      // number, sender, id: the offset of the first publication with it
	bucketOrder   = "order"    // number, offset: the id that the publication has, and since when
	bucketCursors = "cursors"  // number, reader: an offset
	bucketEnded   = "ended"    // slot: random, drawn when a stream of the slot ended, see epochs
)

// ofStreams returns the buckets that hold streams. Their values have checksums.
func ofStreams() []string {
	return []string{bucketStreams, bucketRecords, bucketIDs, bucketOrder, bucketCursors}
}

// maxKey is the maximum length of a name in a key, in bytes. It leaves room for the rest of the
// key.
const maxKey = bbolt.MaxKeySize - 64

// offsetKey returns the key of what belongs to one publication.
func offsetKey(number, offset uint64) []byte {
	return binary.BigEndian.AppendUint64(nameKey(number, ""), offset)
}

// nameKey returns the key of what belongs to a name in a stream.
func nameKey(number uint64, name string) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 16+len(name)), number), name...)
}

// idName returns the name under which the id of a message is stored: different senders have
// different names. The name for an anonymous client begins with a length that no sender has.
func idName(m *broker.Message) string {
	var name []byte
	if m.Guest != "" {
		name = binary.AppendUvarint(binary.AppendUvarint(nil, maxKey+1), uint64(len(m.Guest)))
		name = append(name, m.Guest...)
	}
	name = append(binary.AppendUvarint(name, uint64(len(m.Sender))), m.Sender...)
	return string(append(name, m.ID...))
}

// splitKey returns the number of the stream and the rest of a key.
func splitKey(key []byte) (number uint64, rest []byte) {
	if len(key) < 8 {
		return 0, nil
	}
	return binary.BigEndian.Uint64(key), key[8:]
}

// offsetOf returns the offset in a key of offsetKey. It reports false if the key is not one of the
// stream.
func offsetOf(key []byte, number uint64) (offset uint64, ok bool) {
	n, rest := splitKey(key)
	if n != number || len(rest) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(rest), true
}

// checkKey returns an error that matches broker.ErrInvalidName if a name is too long for a key.
func checkKey(what string, bytes int) error {
	if bytes > maxKey {
		return fmt.Errorf("%w: %s of %d bytes", broker.ErrInvalidName, what, bytes)
	}
	return nil
}
