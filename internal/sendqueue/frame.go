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
	// headroom is the longest header of an unmasked frame: two bytes and a 64-bit length.
	headroom = 10
	// maxReason is the longest reason of a close frame: the 125 bytes of a control frame without
	// the code, RFC 6455 section 5.5.1.
	maxReason = 123
	noCode    = 1005
)

// Frame is one unmasked WebSocket frame with its header, as a server sends it. Another frame may
// precede it, see [Frame.After].
//
// The bytes of a frame are immutable, so that any number of queues can share it. Only one goroutine
// may push a frame, always with the same [Priority].
type Frame struct {
	wire      []byte
	frontLen  uint8 // bytes of the preceding frame
	headerLen uint8
	priority  Priority     // set by the first push
	unsettled int32        // pushes since the last Settle; used by the pushing goroutine only
	held      atomic.Int32 // settled pushes minus releases, see release
}

// NewFrame returns a frame that holds a copy of payload.
func NewFrame(op Op, payload []byte) *Frame {
	return Seal(op, append(Grow(len(payload)), payload...))
}

// Grow returns an empty buffer for a payload of about n bytes. The caller appends the payload and
// passes the buffer to [Seal]. The buffer has room for the header, so that the payload is not
// copied again.
func Grow(n int) []byte {
	return make([]byte, headroom, headroom+n)
}

// Seal returns a frame with the payload in buf, which must have been made by [Grow]. The frame owns
// buf.
func Seal(op Op, buf []byte) *Frame {
	n := len(buf) - headroom
	header := 2
	switch {
	case n > 0xFFFF:
		header = 10
	case n > 125:
		header = 4
	}
	wire := buf[headroom-header:]
	wire[0] = finBit | byte(op)
	switch header {
	case 10:
		wire[1] = 127
		binary.BigEndian.PutUint64(wire[2:], uint64(n))
	case 4:
		wire[1] = 126
		binary.BigEndian.PutUint16(wire[2:], uint16(n))
	default:
		wire[1] = byte(n)
	}
	return &Frame{wire: wire, headerLen: uint8(header)}
}

// After returns a copy of f that follows front immediately: nothing can come between the two on the
// wire. front must be shorter than 200 bytes. Op and Payload are those of f.
func (f *Frame) After(front *Frame) *Frame {
	wire := append(make([]byte, 0, len(front.wire)+len(f.wire)), front.wire...)
	wire = append(wire, f.wire...)
	return &Frame{wire: wire, frontLen: uint8(len(front.wire)), headerLen: f.headerLen}
}

// CloseFrame returns a close frame. It shortens the reason with [CutReason]. Code 1005 means a
// frame without a code, RFC 6455 section 7.4.1.
func CloseFrame(code uint16, reason string) *Frame {
	if code == noCode {
		return NewFrame(OpClose, nil)
	}
	reason = CutReason(reason)
	buf := binary.BigEndian.AppendUint16(Grow(2+len(reason)), code)
	return Seal(OpClose, append(buf, reason...))
}

// CutReason returns the part of a close reason that fits into a close frame. It cuts between
// characters, and replaces bytes that are not valid UTF-8.
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

// directFrame is the size from which a frame is written without copying. A system call costs as
// much as copying some tens of kilobytes: with 16 KiB here, bursts of messages of that size cost
// half as much again.
const directFrame = 64 << 10

// Join returns the bytes of the next write, which starts with frame i, and the index of the first
// frame after it. A system call has a fixed cost, so Join copies consecutive small frames, up to
// limit bytes, into buf, which the next call uses again. The caller must not change p.
func Join(frames []*Frame, i, limit int, buf *[]byte) (p []byte, next int) {
	direct := min(directFrame, limit)
	total := 0
	for next = i; next < len(frames) && frames[next].Len() < direct; next++ {
		if total += frames[next].Len(); total > limit {
			break
		}
	}
	if next <= i+1 { // a single frame, or a large one
		return frames[i].wire, i + 1
	}
	p = (*buf)[:0]
	for _, f := range frames[i:next] {
		p = append(p, f.wire...)
	}
	*buf = p
	return p, next
}

// notePush counts a push to one more queue. It must be called before the queue has the frame, since
// the queue reads the priority.
func (f *Frame) notePush(priority Priority) {
	if f.unsettled++; f.priority != priority {
		f.priority = priority
	}
}

// Op returns the frame's opcode.
func (f *Frame) Op() Op { return Op(f.wire[f.frontLen] & 0x0F) }

// control reports whether f is a control frame, RFC 6455 section 5.5, or not a frame at all.
func (f *Frame) control() bool { return f.headerLen == 0 || f.wire[0]&0x08 != 0 }

// Wire returns the bytes of the frame on the wire. The caller must not change them.
func (f *Frame) Wire() []byte { return f.wire }

// Payload returns the payload of the frame. The caller must not change it.
func (f *Frame) Payload() []byte { return f.wire[f.frontLen+f.headerLen:] }

// Len returns the size of the frame on the wire in bytes.
func (f *Frame) Len() int { return len(f.wire) }
