package inbound

import (
	"encoding/binary"
	"io"
	"math/bits"
)

// The opcodes, RFC 6455 section 5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

const (
	finBit     = 0x80
	rsvBits    = 0x70
	rsv1Bit    = 0x40 // marks a compressed message, RFC 7692 section 6
	maskBit    = 0x80 // in the second byte
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
func (v *Violation) Error() string { return "realtime: " + v.Reason }

// protocolError returns a violation of the protocol.
func protocolError(reason string) *Violation { return &Violation{Code: 1002, Reason: reason} }

// Scanner follows the frames that a client sends, RFC 6455 section 5.2, and checks each header as
// soon as it is complete. It keeps no payload.
type Scanner struct {
	maxSize uint64 // of a message in bytes
	deflate bool   // permessage-deflate was negotiated, RFC 7692

	head        [10]byte // received bytes of an incomplete header, without the mask
	headLen     uint8
	maskMissing uint8   // bytes of the mask
	mask        [4]byte // rotated by Unmask: for the next byte of the payload
	op          byte    // of the frame
	typ         byte    // opcode of the message
	open        bool    // a message has begun, and its last frame has not
	fragments   int     // frames of the message so far
	remaining   uint64  // missing bytes of the payload
	size        uint64  // announced bytes of the message so far
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

// Next takes the next frame, or as much of it as there is, from the beginning of p. It returns its
// payload, which is masked, and the bytes after it. If the frame violates the protocol, rest is p,
// and the scanner must not be used again.
func (s *Scanner) Next(p []byte) (payload, rest []byte, wrong *Violation) {
	rest = p
	if s.maskMissing == 0 && s.remaining == 0 {
		if rest, wrong = s.header(p); wrong != nil {
			return nil, p, wrong
		}
	}
	n := copy(s.mask[4-s.maskMissing:], rest)
	s.maskMissing -= uint8(n)
	rest = rest[n:]
	n = int(min(s.remaining, uint64(len(rest))))
	s.remaining -= uint64(n)
	return rest[:n], rest[n:], nil
}

// inFrame reports whether a frame is incomplete.
func (s *Scanner) inFrame() bool { return s.headLen > 0 || s.maskMissing > 0 || s.remaining > 0 }

// inPayload reports whether the payload of the frame is incomplete, and its header is not.
func (s *Scanner) inPayload() bool { return s.maskMissing == 0 && s.remaining > 0 }

// inControl reports whether the last frame is a control frame.
func (s *Scanner) inControl() bool { return s.op >= opClose }

// Between reports whether neither a frame nor a message is incomplete.
func (s *Scanner) Between() bool { return !s.open && !s.inFrame() }

// message returns the opcode of the message that the last Next has completed, or 0.
func (s *Scanner) message() byte {
	if s.inControl() || !s.Between() {
		return 0
	}
	return s.typ
}

// heartbeat reports whether the last frame is a ping or a pong, and complete.
func (s *Scanner) heartbeat() bool { return s.op > opClose && !s.inFrame() }

// tell reports the payload of a ping or a pong.
func (s *Scanner) tell(l Listener, payload []byte) {
	if s.op == opPing {
		l.Ping(payload)
	} else {
		l.Pong(payload)
	}
}

// failed returns the error of a read that has returned err and no bytes.
func (s *Scanner) failed(err error) error {
	if err == io.EOF && !s.Between() {
		return ErrTorn
	}
	return err
}

// closed reports whether the last frame is a close frame, and complete.
func (s *Scanner) closed() bool { return s.op == opClose && !s.inFrame() }

// header takes a header without its mask from p, and returns the bytes after it.
func (s *Scanner) header(p []byte) (rest []byte, wrong *Violation) {
	for need := s.headNeeded(); s.headLen < need; need = s.headNeeded() {
		n := copy(s.head[s.headLen:need], p)
		s.headLen += uint8(n)
		if p = p[n:]; s.headLen < need {
			return p, nil
		}
	}
	s.headLen, s.maskMissing = 0, 4
	return p, s.frame()
}

// headNeeded returns the length of the header without the mask, as far as it is known.
func (s *Scanner) headNeeded() uint8 {
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
	s.op, s.remaining = op, n
	switch {
	case op >= opClose:
		return s.controlFrame()
	case first && s.open:
		return protocolError("message begins inside another")
	case op == opContinuation && !s.open:
		return protocolError("continuation of nothing")
	case !first && op != opContinuation:
		return protocolError("unknown opcode")
	}
	return s.dataFrame(first)
}

// controlFrame checks the header of a control frame, RFC 6455 section 5.5.
func (s *Scanner) controlFrame() *Violation {
	switch {
	case s.op > opPong:
		return protocolError("unknown opcode")
	case s.head[0]&finBit == 0:
		return protocolError("control frame is fragmented")
	case s.remaining > maxControl:
		return protocolError("control frame is too long")
	}
	return nil
}

// dataFrame counts a frame of a message.
func (s *Scanner) dataFrame(first bool) *Violation {
	if first {
		s.typ, s.fragments, s.size = s.op, 0, 0
	}
	s.open = s.head[0]&finBit == 0
	s.fragments++
	if s.fragments > maxFragments {
		return &Violation{Code: 1008, Reason: "message has too many fragments"}
	}
	if s.remaining > s.maxSize-s.size {
		return &Violation{Code: 1009, Reason: "message is too large"}
	}
	s.size += s.remaining
	return nil
}

// Unmask removes the mask from p, the payload that Next has returned, RFC 6455 section 5.3.
func (s *Scanner) Unmask(p []byte) {
	mask := binary.LittleEndian.Uint32(s.mask[:])
	for wide := uint64(mask)<<32 | uint64(mask); len(p) >= 8; p = p[8:] {
		binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)^wide)
	}
	for i := range p {
		p[i] ^= byte(mask)
		mask = bits.RotateLeft32(mask, -8)
	}
	binary.LittleEndian.PutUint32(s.mask[:], mask)
}
