package redis

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/realtime-go/realtime/broker"
)

// What passes through a channel is an envelope: a byte for the version, a byte for the kind, and
// what the kind says.
//
// A publication has a line with the generation, the offset, the previous offset, the time in
// microseconds, and the node and the number of its Publish call; then the record. What is sent has
// the eight bytes of the node and then the data.
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
	node uint64 // the broker that sent it

	kind       byte
	generation string
	place      place
	call       uint64
	data       string // the record, or what was sent
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
		if !ok || len(words) != 6 {
			return envelope{}, errEnvelope
		}
		e.data, e.generation = data, words[0]
		return e, e.numbers(words[1:])
	}
	return envelope{}, errNewer // a kind that this version does not know
}

func (e *envelope) numbers(words []string) (err error) {
	parse := func(s string, base, bits int) uint64 {
		n, failed := strconv.ParseUint(s, base, bits)
		if failed != nil {
			err = fmt.Errorf("%w: %w", errEnvelope, failed)
		}
		return n
	}
	e.place = place{
		parse(words[0], 10, 53), parse(words[1], 10, 53), int64(parse(words[2], 10, 53)),
	}
	e.node, e.call = parse(words[3], 16, 64), parse(words[4], 10, 64)
	if err == nil && (e.generation == "" || e.place.offset <= e.place.prev) {
		err = errEnvelope
	}
	return err
}

// origin is what the envelope of a publication says about its Publish call.
func origin(node, call uint64) string {
	return strconv.FormatUint(node, 16) + " " + strconv.FormatUint(call, 10)
}

// encodeSent returns the envelope of something sent.
func encodeSent(node uint64, data []byte) []byte {
	buf := append(make([]byte, 0, 10+len(data)), version, sent)
	return append(binary.BigEndian.AppendUint64(buf, node), data...)
}

// record returns what is kept of a publication.
func record(p *broker.Publication) ([]byte, error) {
	kept := *p
	kept.Stream, kept.Position, kept.Prev, kept.At = "", broker.Position{}, 0, time.Time{}
	kept.Shared, kept.Origin = false, nil
	return kept.AppendBinary([]byte{version})
}

// unrecord reads a record.
func unrecord(s, stream, generation string, at place) (p broker.Publication, err error) {
	if s == "" || s[0] != version {
		return p, errNewer
	}
	if err := p.UnmarshalBinary([]byte(s[1:])); err != nil {
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
