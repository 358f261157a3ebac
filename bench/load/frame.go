//go:build linux

package load

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
)

// The opcodes of RFC 6455 that the generator uses.
const (
	opText  = 1
	opClose = 8
	opPing  = 9
	opPong  = 10
)

// The bits of a frame's first byte.
const (
	finBit  = 0x80
	rsv1Bit = 0x40 // compressed, RFC 7692
	opBits  = 0x0f
)

// maskKey is an arbitrary key that is not zero, so that a server has to unmask.
var maskKey = [4]byte{0x37, 0xfa, 0x21, 0x3d}

// appendFrame appends a complete frame of a client.
func appendFrame(dst []byte, op byte, payload []byte) []byte {
	dst = append(dst, finBit|op)
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, 0x80|byte(n))
	case n < 1<<16:
		dst = append(dst, 0x80|126)
		dst = binary.BigEndian.AppendUint16(dst, uint16(n))
	default:
		dst = append(dst, 0x80|127)
		dst = binary.BigEndian.AppendUint64(dst, uint64(n))
	}
	dst = append(dst, maskKey[:]...)
	for i, b := range payload {
		dst = append(dst, b^maskKey[i&3])
	}
	return dst
}

// cutFrame returns the first byte and the payload of the first frame in buf, which a server has
// sent, and the bytes after it. ok is false if the frame is incomplete.
func cutFrame(buf []byte) (first byte, payload, rest []byte, ok bool) {
	if len(buf) < 2 {
		return 0, nil, buf, false
	}
	n, head := int(buf[1]&0x7f), 2
	switch {
	case n == 126 && len(buf) >= 4:
		n, head = int(binary.BigEndian.Uint16(buf[2:])), 4
	case n == 127 && len(buf) >= 10:
		n, head = int(binary.BigEndian.Uint64(buf[2:])), 10
	case n >= 126:
		return 0, nil, buf, false
	}
	if n < 0 || len(buf)-head < n {
		return 0, nil, buf, false
	}
	return buf[0], buf[head : head+n], buf[head+n:], true
}

// A body is the content of a message, padded to a size: the mark, which occurs nowhere else in a
// message, the time, the number, and text.
//
// ~0123456789abcdef.01234567.{'id':583920,'us
const (
	mark    = '~'
	minBody = 1 + 16 + 1 + 8 + 1
)

// appendBody appends a body of size bytes, but at least minBody.
func appendBody(dst []byte, at int64, seq uint32, size int) []byte {
	dst = append(dst, mark)
	dst = appendHex(dst, uint64(at), 16)
	dst = append(dst, '.')
	dst = appendHex(dst, uint64(seq), 8)
	dst = append(dst, '.')
	for size -= minBody; size > 0; size -= len(text) {
		dst = append(dst, text[:min(size, len(text))]...)
	}
	return dst
}

// text pads bodies. It compresses about as well as JSON, but needs no escapes within JSON.
var text = makeText(16 << 10)

func makeText(size int) []byte {
	random := rand.New(rand.NewPCG(1, 2)) // the same text in every run
	words := []string{"filled", "open order", "cancelled by user", "partially filled"}
	var out []byte
	for len(out) < size {
		out = fmt.Appendf(out, "{'id':%d,'user':'u%d','price':%.2f,'qty':%d,'note':'%s'},",
			random.IntN(1e6), random.IntN(1000), 1000*random.Float64(), random.IntN(500),
			words[random.IntN(len(words))])
	}
	return out[:size]
}

func appendHex(dst []byte, v uint64, digits int) []byte {
	const hex = "0123456789abcdef"
	for i := digits - 1; i >= 0; i-- {
		dst = append(dst, hex[v>>(4*i)&15])
	}
	return dst
}

// cutBody decodes the body that begins with the mark at b[0].
func cutBody(b []byte) (at int64, seq uint32, ok bool) {
	if len(b) < minBody {
		return 0, 0, false
	}
	t, err1 := strconv.ParseInt(string(b[1:17]), 16, 64)
	s, err2 := strconv.ParseUint(string(b[18:26]), 16, 32)
	return t, uint32(s), err1 == nil && err2 == nil
}
