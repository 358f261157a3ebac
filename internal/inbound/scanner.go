package inbound

import "encoding/binary"

// The opcodes, RFC 6455 section 5.2.
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
	rsv1Bit    = 0x40 // marks a compressed message, RFC 7692 section 6
	maskBit    = 0x80 // in the second byte
	maskBytes  = 4
	maxControl = 125
	// maxFragments bounds the frames of a message. An empty frame costs the peer only six bytes,
	// and no other bound applies to it.
	maxFragments = 1024
)

// Violation is an error of the peer that ends its connection, with the close code for it, RFC 6455
// section 7.4.1.
type Violation struct {
	Code   uint16
	Reason string
}

// Error returns the reason.
func (v *Violation) Error() string { return "inbound: " + v.Reason }

// protocolError returns a violation of the protocol.
func protocolError(reason string) *Violation { return &Violation{Code: 1002, Reason: reason} }

// Scanner follows the frames that a client sends, RFC 6455 section 5.2. It keeps none of their
// payload. It provides facts that the WebSocket library does not report: whether a frame or a
// message is incomplete, the length of a message before it has arrived, and the number of its
// fragments.
type Scanner struct {
	maxSize uint64 // of a message in bytes
	deflate bool   // permessage-deflate was negotiated, RFC 7692

	head       [10]byte // received bytes of the frame header, without the mask
	headLen    int
	remaining  uint64 // missing bytes of the mask and the payload
	controlLen uint8  // size of a valid control frame; 0 for other frames
	open       bool   // a message has begun, and its last frame has not
	fragments  int    // frames of the message so far
	size       uint64 // announced bytes of the message so far
}

// NewScanner returns a scanner for messages of at most maxMessage bytes. deflate says that
// compression was negotiated; then a message may be slightly longer on the wire, because data that
// cannot be compressed grows.
func NewScanner(maxMessage int, deflate bool) Scanner {
	s := Scanner{maxSize: uint64(maxMessage), deflate: deflate}
	if deflate {
		s.maxSize += s.maxSize/1024 + 64
	}
	return s
}

// Between reports whether neither a frame nor a message is incomplete.
func (s *Scanner) Between() bool { return s.headLen == 0 && s.remaining == 0 && !s.open }

// InControl returns the number of received bytes of an incomplete control frame, including its
// header, or 0 if there is none.
func (s *Scanner) InControl() int {
	if s.controlLen == 0 || s.remaining == 0 {
		return 0
	}
	return int(s.controlLen) - int(s.remaining)
}

// Scan scans p up to the end of a message or a control frame, and returns the number of scanned
// bytes. If a frame violates the protocol, n is the number of bytes before it, and the scanner must
// not be used again.
func (s *Scanner) Scan(p []byte) (n int, wrong *Violation) {
	for i := 0; i < len(p); {
		if s.remaining > 0 {
			step := min(s.remaining, uint64(len(p)-i))
			s.remaining -= step
			i += int(step)
			if s.remaining == 0 && (s.controlLen > 0 || !s.open) {
				return i, nil
			}
			continue
		}
		start := i
		for i < len(p) && s.headLen < s.headNeeded() {
			s.head[s.headLen] = p[i]
			s.headLen++
			i++
		}
		if s.headLen < s.headNeeded() {
			break
		}
		if wrong := s.frame(); wrong != nil {
			return start, wrong
		}
		s.headLen = 0
	}
	return len(p), nil
}

// headNeeded returns the length of the header without the mask, as far as it is known.
func (s *Scanner) headNeeded() int {
	switch {
	case s.headLen < 2:
		return 2
	case s.head[1] == maskBit|127:
		return 10
	case s.head[1] == maskBit|126:
		return 4
	default: // two bytes suffice, also to refuse a frame without a mask
		return 2
	}
}

// frame checks a complete header and begins the payload.
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
		return protocolError("frame is not masked")
	case rsv != 0 && !(rsv == rsv1Bit && first && s.deflate):
		return protocolError("reserved bit is set")
	case n > 1<<63-1:
		return protocolError("length has its highest bit set")
	}
	s.remaining, s.controlLen = n+maskBytes, 0
	switch {
	case op >= opClose:
		return s.controlFrame(op, n)
	case first && s.open:
		return protocolError("message begins inside another")
	case op == opContinuation && !s.open:
		return protocolError("continuation of nothing")
	case !first && op != opContinuation:
		return protocolError("unknown opcode")
	}
	return s.dataFrame(first, n)
}

// controlFrame checks the header of a control frame, RFC 6455 section 5.5.
func (s *Scanner) controlFrame(op byte, n uint64) *Violation {
	switch {
	case op > opPong:
		return protocolError("unknown opcode")
	case s.head[0]&finBit == 0:
		return protocolError("control frame is fragmented")
	case n > maxControl:
		return protocolError("control frame is too long")
	}
	s.controlLen = uint8(s.headLen + maskBytes + int(n))
	return nil
}

// dataFrame counts a frame of a message.
func (s *Scanner) dataFrame(first bool, n uint64) *Violation {
	if first {
		s.fragments, s.size = 0, 0
	}
	s.open = s.head[0]&finBit == 0
	s.fragments++
	if s.fragments > maxFragments {
		return &Violation{Code: 1008, Reason: "message has too many fragments"}
	}
	if n > s.maxSize-s.size {
		return &Violation{Code: 1009, Reason: "message is too large"}
	}
	s.size += n
	return nil
}
