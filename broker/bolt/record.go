package bolt

import (
	"encoding/binary"
	"time"

	"github.com/realtime-go/realtime/broker"
)

// record is a publication in the form in which it is kept: a checksum, the time in Unix
// nanoseconds, the time to live in nanoseconds, the size, and the encoding of
// broker.Publication.AppendBinary. The numbers can be read without decoding the rest.
type record struct {
	at   int64         // when the publication was taken
	ttl  time.Duration // zero: it does not expire
	size int           // as counted by broker.Publication.Size
	body []byte        // points into the file
}

// recordHead is the length of the numbers between the checksum and the body, in bytes.
const recordHead = 8 + 8 + 8

// newRecord returns the record of a publication without its checksum, because the key is not yet
// known.
func newRecord(p *broker.Publication) ([]byte, error) {
	value := make([]byte, sumBytes+recordHead, sumBytes+recordHead+p.Size())
	binary.BigEndian.PutUint64(value[sumBytes+8:], uint64(p.Message.TTL))
	binary.BigEndian.PutUint64(value[sumBytes+16:], uint64(p.Size()))
	bare := *p
	bare.Stream, bare.Keep, bare.Shared = "", broker.Retention{}, false
	bare.Position, bare.Prev, bare.At = broker.Position{}, 0, time.Time{}
	return bare.AppendBinary(value)
}

// stamp writes the time and the checksum of a record.
func stamp(key, value []byte, at time.Time) []byte {
	binary.BigEndian.PutUint64(value[sumBytes:], uint64(at.UnixNano()))
	return seal(key, value)
}

// readRecord decodes the value under key. It reports false if the value is damaged.
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

// expired reports whether the time to live of the publication has passed.
func (r *record) expired(now time.Time) bool {
	return r.ttl > 0 && now.Sub(time.Unix(0, r.at)) >= r.ttl
}

// publication decodes the body. The result has no stream, position, bounds or time.
func (r *record) publication() (broker.Publication, error) {
	var p broker.Publication
	err := p.UnmarshalBinary(r.body)
	return p, err
}
