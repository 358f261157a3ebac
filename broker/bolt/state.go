package bolt

import (
	"encoding/binary"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/realtime-go/realtime/broker"
)

// state is the state of a stream as a whole, as the file has it. The zero state means that the
// stream does not exist.
type state struct {
	number uint64 // prefix of the stream's keys; never used again
	epoch  uint64 // if the stream is not in the file: the epoch with which it will begin
	top    uint64 // offset of the newest publication; offsets are dense from 1 on
	floor  uint64 // offset of the newest publication that is no longer kept
	why    why    // why the publications up to floor are gone
	count  int64  // number of kept publications
	bytes  int64  // their size
	ids    int64  // number of remembered ids
	oldest int64  // when the oldest kept publication was taken, in Unix nanoseconds
	used   int64  // when the newest publication was taken
	keep   broker.Retention

	kind kind // not in the file: it follows from the name
}

// kind is a class of streams with separate bounds.
type kind uint8

const (
	rooms kind = iota
	inboxes
	kinds
)

// kindOf returns the kind of a stream. Every stream that is not an inbox counts as a room.
func kindOf(stream string) kind {
	if strings.HasPrefix(stream, broker.InboxStream("")) {
		return inboxes
	}
	return rooms
}

// why is a broker.Reason, as it is stored in the file.
type why byte

const (
	whyExpired why = iota + 1
	whyOverflow
	whyDamaged
)

func (w why) reason() broker.Reason {
	switch w {
	case whyExpired:
		return broker.ReasonExpired
	case whyOverflow:
		return broker.ReasonOverflow
	case whyDamaged:
		return broker.ReasonEpoch // the kept publications were lost
	default:
		return ""
	}
}

const stateBytes = 13 * 8

// fields lists the numbers of a state in the order of the file.
func (s *state) fields() [13]uint64 {
	return [...]uint64{
		s.number, s.epoch, s.top, s.floor, uint64(s.why),
		uint64(s.count), uint64(s.bytes), uint64(s.ids), uint64(s.oldest), uint64(s.used),
		uint64(s.keep.Messages), uint64(s.keep.Age), uint64(s.keep.Bytes),
	}
}

// value returns the encoding of the state under key.
func (s *state) value(key []byte) []byte {
	value := make([]byte, sumBytes, sumBytes+stateBytes)
	for _, n := range s.fields() {
		value = binary.BigEndian.AppendUint64(value, n)
	}
	return seal(key, value)
}

// readState decodes the value under key. It reports false if the value is damaged. A nil value is
// the state of a stream that does not exist.
func readState(key, value []byte) (state, bool) {
	if value == nil {
		return state{kind: kindOf(string(key))}, true
	}
	p, ok := unseal(key, value)
	if !ok || len(p) != stateBytes {
		return state{kind: kindOf(string(key))}, false
	}
	n := func(i int) uint64 { return binary.BigEndian.Uint64(p[8*i:]) }
	return state{
		number: n(0), epoch: n(1), top: n(2), floor: n(3), why: why(n(4)),
		count: int64(n(5)), bytes: int64(n(6)), ids: int64(n(7)), oldest: int64(n(8)), used: int64(n(9)),
		keep: broker.Retention{Messages: int(n(10)), Age: time.Duration(n(11)), Bytes: int(n(12))},
		kind: kindOf(string(key)),
	}, true
}

// draw returns a random number for an epoch. It is never zero.
func draw() uint64 { return rand.Uint64() | 1 }

// position returns a position in the stream, or the zero Position if the stream has no epoch. A new
// era gives all streams new epochs.
func (s *state) position(era, offset uint64) broker.Position {
	if s.epoch == 0 {
		return broker.Position{}
	}
	return broker.Position{Epoch: strconv.FormatUint(s.epoch^era, 36), Offset: offset}
}

// beyond returns the reason why the oldest publication is beyond the bounds of the stream. It
// reports false if it is within.
func (s *state) beyond(now time.Time) (why, bool) {
	switch {
	case s.count == 0:
		return 0, false
	case s.count > int64(s.keep.Messages), s.keep.Bytes > 0 && s.bytes > int64(s.keep.Bytes):
		return whyOverflow, true
	case s.keep.Age > 0 && now.UnixNano()-s.oldest >= int64(s.keep.Age):
		return whyExpired, true
	}
	return 0, false
}

// atBounds reports whether one more publication of this size displaces another, with these bounds.
func (s *state) atBounds(size int, keep broker.Retention) bool {
	return s.count > 0 && (s.count+1 > int64(keep.Messages) ||
		keep.Bytes > 0 && s.bytes+int64(size) > int64(keep.Bytes))
}

// staleIDs reports whether there are ids that need not be remembered.
func (s *state) staleIDs(now time.Time) bool {
	return s.ids > min(s.count, idPublications+1) && now.UnixNano()-s.used > int64(idAge)
}
