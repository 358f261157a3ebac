package sendqueue

import (
	"encoding/binary"
	"strings"
	"sync/atomic"
	"unicode/utf8"
)

// Op is the opcode of a WebSocket frame, RFC 6455 section 5.2.
type Op byte

// The opcodes that a server sends.
const (
	OpText   Op = 0x1
	OpBinary Op = 0x2
	OpClose  Op = 0x8
	OpPing   Op = 0x9
	OpPong   Op = 0xA
)

const (
	finBit = 0x80
	// headroom is the longest header of an unmasked frame: two bytes and a
	// 64-bit length.
	headroom = 10
	// maxReason is what a control frame's 125 bytes leave behind the code,
	// RFC 6455 section 5.5.1.
	maxReason = 123
	noCode    = 1005
)

// Frame is one unmasked WebSocket frame, header included: what a server sends. Another one may be
// in front of it, see [Frame.Behind].
// Its bytes are immutable, so any number of links share one. One goroutine pushes it, always
// as the same [Class].
type Frame struct {
	wire  []byte
	front uint8 // bytes of the frame in front
	head  uint8
	class Class        // of every push; written by the first
	given int32        // to so many links since it was last settled; the pusher's own
	held  atomic.Int32 // by so many links, see release
}

// NewFrame returns a frame that holds a copy of payload.
func NewFrame(op Op, payload []byte) *Frame {
	return Seal(op, append(Grow(len(payload)), payload...))
}

// Grow returns an empty buffer for a payload of about n bytes, to be appended to
// and given to [Seal]. It leaves room for the header in front, so that a frame
// is built without a second copy.
func Grow(n int) []byte {
	return make([]byte, headroom, headroom+n)
}

// Seal makes a frame of a buffer that began with [Grow], and owns it from then on.
func Seal(op Op, buf []byte) *Frame {
	n := len(buf) - headroom
	head := 2
	switch {
	case n > 0xFFFF:
		head = 10
	case n > 125:
		head = 4
	}
	wire := buf[headroom-head:]
	wire[0] = finBit | byte(op)
	switch head {
	case 10:
		wire[1] = 127
		binary.BigEndian.PutUint64(wire[2:], uint64(n))
	case 4:
		wire[1] = 126
		binary.BigEndian.PutUint16(wire[2:], uint16(n))
	default:
		wire[1] = byte(n)
	}
	return &Frame{wire: wire, head: uint8(head)}
}

// Behind returns f with another frame, of less than 200 bytes, in front of it. They are one on the
// wire, so nothing comes between them; all else is f's.
func (f *Frame) Behind(front *Frame) *Frame {
	wire := append(make([]byte, 0, len(front.wire)+len(f.wire)), front.wire...)
	return &Frame{wire: append(wire, f.wire...), front: uint8(len(front.wire)), head: f.head}
}

// CloseFrame returns a close frame. The reason is cut to what fits, at the
// boundary of a character, and bytes that are not UTF-8 are replaced. Code 1005
// means a frame without a code, RFC 6455 section 7.4.1.
func CloseFrame(code uint16, reason string) *Frame {
	if code == noCode {
		return NewFrame(OpClose, nil)
	}
	reason = CutReason(reason)
	buf := binary.BigEndian.AppendUint16(Grow(2+len(reason)), code)
	return Seal(OpClose, append(buf, reason...))
}

// CutReason returns what of a close reason fits into a close frame.
func CutReason(reason string) string {
	reason = strings.ToValidUTF8(reason, "\uFFFD")
	if len(reason) <= maxReason {
		return reason
	}
	cut := maxReason
	for !utf8.RuneStart(reason[cut]) {
		cut--
	}
	return reason[:cut]
}

// directFrame is the size from which a frame is written from where it is. A system call
// costs as much as copying some tens of kilobytes: with 16 KiB here, bursts of messages of
// that size cost half as much again.
const directFrame = 64 << 10

// Join returns the bytes of the next write, which begins with frame i, and the frame behind
// them. A write costs a system call whatever its size, so smaller frames that follow each
// other are joined, up to limit bytes, in buf, which the next call uses again.
func Join(frames []*Frame, i, limit int, buf *[]byte) (p []byte, next int) {
	direct := min(directFrame, limit)
	total := 0
	for next = i; next < len(frames) && frames[next].Len() < direct; next++ {
		if total += frames[next].Len(); total > limit {
			break
		}
	}
	if next <= i+1 { // alone, or too large for company
		return frames[i].wire, i + 1
	}
	p = (*buf)[:0]
	for _, f := range frames[i:next] {
		p = append(p, f.wire...)
	}
	*buf = p
	return p, next
}

// give notes that one more link gets the frame. Links that have it read its class, so it is
// written before any has.
func (f *Frame) give(class Class) {
	if f.given++; f.class != class {
		f.class = class
	}
}

// Op returns the frame's opcode.
func (f *Frame) Op() Op { return Op(f.wire[f.front] & 0x0F) }

// control reports whether it is a control frame, RFC 6455 section 5.5, or no frame at all.
func (f *Frame) control() bool { return f.head == 0 || f.wire[0]&0x08 != 0 }

// Wire returns the frame as it goes onto a socket. The caller must not change it.
func (f *Frame) Wire() []byte { return f.wire }

// Payload returns what the frame carries. The caller must not change it.
func (f *Frame) Payload() []byte { return f.wire[f.front+f.head:] }

// Len returns the size of the frame on the wire, in bytes.
func (f *Frame) Len() int { return len(f.wire) }
