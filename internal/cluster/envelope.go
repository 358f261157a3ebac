package cluster

import (
	"encoding/binary"
	"errors"
)

// Envelope is what one node sends to others.
type Envelope struct {
	From ID
	// Number distinguishes the envelopes of a node that was sent to several subjects: who listens to
	// more than one of them gets it more than once. Zero: it was sent to one.
	Number uint64
	Kind   Kind
	Data   []byte
}

// Kind is what the data of an envelope are.
type Kind byte

// The kinds of envelopes. A node ignores a kind that it does not know: another node may be newer.
const (
	// KindMessage is a broker.Publication that is not kept.
	KindMessage Kind = 1
	// KindBeat is a sign of life, see Events.Beat. KindBye is the last one, without data.
	KindBeat Kind = 2
	KindBye  Kind = 3
	// KindAsk is a question in JSON, and KindAnswer the answer.
	KindAsk    Kind = 4
	KindAnswer Kind = 5
	// KindPart is what a node says about its part of a room.
	KindPart Kind = 6
)

// version is the first byte of each envelope. A later version that older nodes must not
// misunderstand has another one; what they can ignore is a new kind.
const version = 1

var (
	errVersion  = errors.New("cluster: an envelope of another version")
	errEnvelope = errors.New("cluster: not an envelope")
)

// append appends the encoding that parse reads.
func (e *Envelope) append(buf []byte) []byte {
	buf = append(buf, version, byte(e.Kind))
	buf = append(buf, e.From[:]...)
	buf = binary.AppendUvarint(buf, e.Number)
	return append(buf, e.Data...)
}

// parse reads an envelope, which keeps a reference to data.
func parse(data []byte) (e Envelope, err error) {
	switch {
	case len(data) == 0:
		return e, errEnvelope
	case data[0] != version:
		return e, errVersion
	case len(data) < 2+len(e.From)+1:
		return e, errEnvelope
	}
	e.Kind = Kind(data[1])
	copy(e.From[:], data[2:])
	rest := data[2+len(e.From):]
	n, size := binary.Uvarint(rest)
	if size <= 0 {
		return e, errEnvelope
	}
	e.Number, e.Data = n, rest[size:]
	return e, nil
}
