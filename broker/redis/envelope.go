package redis

import (
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/realtime-go/realtime/broker"
)

// What passes through a channel is an envelope: a byte for the version, a byte for the kind, and
// what the kind says.
//
// A publication has a line with the generation, the offset, the previous offset, and the time in
// microseconds; then the record. What is sent has the eight bytes of the node and then the data.
//
// A record is what is kept of a publication: a byte for the version, the eight bytes of the node
// and those of the number of its Publish call, and the publication.
const (
	version     = 1
	publication = 'p'
	sent        = 's'
)

var (
	errEnvelope = errors.New("redis: not an envelope")
	errNewer    = errors.New("redis: an envelope of a newer version")
)

// envelope is what arrives in a channel. Only one of the kinds is set.
type envelope struct {
	kind       byte
	node       uint64 // the broker that has sent it
	generation string
	place      place
	data       string // what was sent
	record     *kept
}

// kept is a record before its publication is decoded.
type kept struct {
	node, call uint64
	data       string
}

// place is where and when a publication was taken.
type place struct {
	offset, prev uint64
	at           int64 // in microseconds
}

// decode reads an envelope.
func decode(s string) (envelope, error) {
	switch {
	case len(s) < 2:
		return envelope{}, errEnvelope
	case s[0] > version:
		return envelope{}, errNewer
	case s[0] != version:
		return envelope{}, errEnvelope
	}
	e := envelope{kind: s[1]}
	switch s = s[2:]; e.kind {
	case sent:
		if len(s) < 8 {
			return envelope{}, errEnvelope
		}
		e.node, e.data = binary.BigEndian.Uint64([]byte(s[:8])), s[8:]
		return e, nil
	case publication:
		line, data, ok := strings.Cut(s, "\n")
		words := strings.Split(line, " ")
		if !ok || len(words) != 4 {
			return envelope{}, errEnvelope
		}
		e.generation = words[0]
		if err := e.place.parse(words[1:]); err != nil || e.generation == "" {
			return envelope{}, errEnvelope
		}
		r, err := decodeRecord(data)
		e.record, e.node = r, r.node
		return e, err
	}
	return envelope{}, errNewer // a kind that this version does not know
}

// parse reads the words of an envelope.
func (at *place) parse(words []string) error {
	var n [3]uint64
	for i := range n {
		var err error
		if n[i], err = strconv.ParseUint(words[i], 10, 53); err != nil {
			return err
		}
	}
	if *at = (place{n[0], n[1], int64(n[2])}); at.offset <= at.prev {
		return errEnvelope
	}
	return nil
}

// encodeSent returns the envelope of something sent.
func encodeSent(node uint64, data []byte) []byte {
	buf := append(make([]byte, 0, 10+len(data)), version, sent)
	return append(binary.BigEndian.AppendUint64(buf, node), data...)
}

// encodeRecord returns the record of a publication.
func encodeRecord(p *broker.Publication, node, call uint64) ([]byte, error) {
	bare := *p
	bare.Stream, bare.Position, bare.Prev, bare.At = "", broker.Position{}, 0, time.Time{}
	bare.Shared, bare.Origin = false, nil
	buf := append(make([]byte, 0, 512+len(p.Message.Content)+len(p.Message.Binary)), version)
	buf = binary.BigEndian.AppendUint64(buf, node)
	buf = binary.BigEndian.AppendUint64(buf, call)
	return bare.AppendBinary(buf)
}

// decodeRecord reads a record except for its publication. It never returns nil.
func decodeRecord(s string) (*kept, error) {
	switch {
	case s == "" || s[0] == 0:
		return &kept{}, errEnvelope
	case s[0] > version:
		return &kept{}, errNewer
	case len(s) < 17:
		return &kept{}, errEnvelope
	}
	head := []byte(s[1:17])
	return &kept{binary.BigEndian.Uint64(head), binary.BigEndian.Uint64(head[8:]), s[17:]}, nil
}

// publication decodes the publication.
func (k *kept) publication(
	stream, generation string, at place,
) (p broker.Publication, err error) {
	if err := p.UnmarshalBinary([]byte(k.data)); err != nil {
		return p, err
	}
	at.set(&p, stream, generation)
	return p, nil
}

// set sets what the broker sets of a publication.
func (at place) set(p *broker.Publication, stream, generation string) {
	p.Stream, p.Shared = stream, false
	p.Position = broker.Position{Epoch: epoch(generation, stream), Offset: at.offset}
	p.Prev, p.At = at.prev, time.UnixMicro(at.at)
}
