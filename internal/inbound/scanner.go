package inbound

import "encoding/binary"

// The opcodes of RFC 6455 section 5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPong         = 0xA
)

const (
	finBit     = 0x80
	rsvBits    = 0x70
	rsv1Bit    = 0x40 // the message is compressed, RFC 7692 section 6
	maskBit    = 0x80 // of the second byte
	maskBytes  = 4
	maxControl = 125
	// maxFragments is of how many frames a message may consist. Empty ones cost the peer
	// six bytes each and count nowhere else.
	maxFragments = 1024
)

// Violation is what a peer did that ends its connection, with the close code for it:
// RFC 6455 section 7.4.1.
type Violation struct {
	Code   uint16
	Reason string
}

// Error returns the reason.
func (v *Violation) Error() string { return "inbound: " + v.Reason }

// violation returns a breach of the protocol.
func violation(reason string) *Violation { return &Violation{Code: 1002, Reason: reason} }

// Scanner follows the frames that a client sends, RFC 6455 section 5.2, without keeping
// any of their bytes. It finds out what the WebSocket library above has no place to say:
// whether a frame or a message is under way, how long it is before its bytes have come,
// and of how many pieces.
type Scanner struct {
	max     uint64 // bytes of a message
	deflate bool   // permessage-deflate was agreed on, RFC 7692

	head  [10]byte // of the frame without the mask, as far as it has come
	have  int
	left  uint64 // bytes of the mask and the payload that have not come
	ctrl  uint8  // bytes of the frame if it is a good control frame, or 0
	open  bool   // a message has begun whose last frame has not
	parts int    // its frames so far
	size  uint64 // its announced bytes so far
}

// NewScanner returns a scanner for messages of at most maxMessage bytes. A compressed one
// may be a little longer: what cannot be compressed grows. deflate says that compression was
// negotiated.
func NewScanner(maxMessage int, deflate bool) Scanner {
	s := Scanner{max: uint64(maxMessage), deflate: deflate}
	if deflate {
		s.max += s.max/1024 + 64
	}
	return s
}

// Between reports whether nothing is under way, neither a frame nor a message.
func (s *Scanner) Between() bool { return s.have == 0 && s.left == 0 && !s.open }

// InControl returns how many bytes have come of a control frame that is under way, from its
// header on; 0 if none is.
func (s *Scanner) InControl() int {
	if s.ctrl == 0 || s.left == 0 {
		return 0
	}
	return int(s.ctrl) - int(s.left)
}

// Scan takes the next bytes, up to the end of a message or of a control frame, and returns
// how many that were. If a frame among them breaks the rules, n is how many come before it,
// and the scanner is of no further use.
func (s *Scanner) Scan(p []byte) (n int, wrong *Violation) {
	for i := 0; i < len(p); {
		if s.left > 0 {
			step := min(s.left, uint64(len(p)-i))
			s.left -= step
			i += int(step)
			if s.left == 0 && (s.ctrl > 0 || !s.open) {
				return i, nil
			}
			continue
		}
		start := i
		for i < len(p) && s.have < s.need() {
			s.head[s.have] = p[i]
			s.have++
			i++
		}
		if s.have < s.need() {
			break
		}
		if wrong := s.frame(); wrong != nil {
			return start, wrong
		}
		s.have = 0
	}
	return len(p), nil
}

// need is how much of the header it takes, as far as is known.
func (s *Scanner) need() int {
	switch {
	case s.have < 2:
		return 2
	case s.head[1] == maskBit|127:
		return 10
	case s.head[1] == maskBit|126:
		return 4
	default: // not masked, perhaps: that is all it takes to refuse it
		return 2
	}
}

// frame checks a header that has come whole, and begins its payload.
func (s *Scanner) frame() *Violation {
	op, rsv := s.head[0]&0x0F, s.head[0]&rsvBits
	n := uint64(s.head[1] &^ maskBit)
	switch n {
	case 126:
		n = uint64(binary.BigEndian.Uint16(s.head[2:]))
	case 127:
		n = binary.BigEndian.Uint64(s.head[2:])
	}
	first := op == opText || op == opBinary
	switch {
	case s.head[1]&maskBit == 0:
		return violation("frame is not masked")
	case rsv != 0 && !(rsv == rsv1Bit && first && s.deflate):
		return violation("reserved bit is set")
	case n > 1<<63-1:
		return violation("length has its highest bit set")
	}
	s.left, s.ctrl = n+maskBytes, 0
	switch {
	case op >= opClose:
		return s.control(op, n)
	case first && s.open:
		return violation("message begins inside another")
	case op == opContinuation && !s.open:
		return violation("continuation of nothing")
	case !first && op != opContinuation:
		return violation("unknown opcode")
	}
	return s.piece(first, n)
}

// control checks the header of a control frame, RFC 6455 section 5.5.
func (s *Scanner) control(op byte, n uint64) *Violation {
	switch {
	case op > opPong:
		return violation("unknown opcode")
	case s.head[0]&finBit == 0:
		return violation("control frame is fragmented")
	case n > maxControl:
		return violation("control frame is too long")
	}
	s.ctrl = uint8(s.have + maskBytes + int(n))
	return nil
}

// piece counts a frame of a message.
func (s *Scanner) piece(first bool, n uint64) *Violation {
	if first {
		s.parts, s.size = 0, 0
	}
	s.open = s.head[0]&finBit == 0
	s.parts++
	if s.parts > maxFragments {
		return &Violation{Code: 1008, Reason: "message has too many fragments"}
	}
	if n > s.max-s.size {
		return &Violation{Code: 1009, Reason: "message is too large"}
	}
	s.size += n
	return nil
}
