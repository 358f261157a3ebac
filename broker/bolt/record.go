package bolt

import (
	"encoding/binary"
	"time"

	"github.com/realtime-go/realtime/broker"
)

// record is a publication as it is kept: a checksum, the times in Unix nanoseconds and nanoseconds,
// the size, and what broker.Publication.AppendBinary makes of the rest. What stands in front can
// be read without decoding the rest.
type record struct {
	at   int64         // when it was taken
	ttl  time.Duration // zero: it does not expire
	size int           // as broker.Publication.Size counts
	body []byte        // in the file
}

// recordHead is what stands in front of the body, behind the checksum, in bytes.
const recordHead = 8 + 8 + 8

// newRecord returns the record of a publication without its checksum: the key is not known yet.
func newRecord(p *broker.Publication) ([]byte, error) {
	value := make([]byte, sumBytes+recordHead, sumBytes+recordHead+p.Size())
	binary.BigEndian.PutUint64(value[sumBytes+8:], uint64(p.Message.TTL))
	binary.BigEndian.PutUint64(value[sumBytes+16:], uint64(p.Size()))
	bare := *p
	bare.Stream, bare.Keep, bare.Shared = "", broker.Retention{}, false
	bare.Position, bare.Prev, bare.At = broker.Position{}, 0, time.Time{}
	return bare.AppendBinary(value)
}

// stamp writes the time into a record, and the checksum.
func stamp(key, value []byte, at time.Time) []byte {
	binary.BigEndian.PutUint64(value[sumBytes:], uint64(at.UnixNano()))
	return seal(key, value)
}

// readRecord reads what is kept under key, or reports false if it is damaged.
func readRecord(key, value []byte) (record, bool) {
	p, ok := unseal(key, value)
	if !ok || len(p) < recordHead {
		return record{}, false
	}
	return record{
		at:   int64(binary.BigEndian.Uint64(p)),
		ttl:  time.Duration(binary.BigEndian.Uint64(p[8:])),
		size: int(binary.BigEndian.Uint64(p[16:])),
		body: p[recordHead:],
	}, true
}

// expired reports whether the publication's time to live is over.
func (r *record) expired(now time.Time) bool {
	return r.ttl > 0 && now.Sub(time.Unix(0, r.at)) >= r.ttl
}

// publication decodes the body. It is without what the stream says, its name, position and bounds,
// and without the time.
func (r *record) publication() (broker.Publication, error) {
	var p broker.Publication
	err := p.UnmarshalBinary(r.body)
	return p, err
}
