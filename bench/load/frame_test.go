//go:build linux

package load

import (
	"bytes"
	"testing"
)

// cutFrame finds a frame however it is split into reads.
func TestCutFrame(t *testing.T) {
	for _, size := range []int{minBody, 125, 126, 1 << 15, 1<<16 - 1, 1 << 16} {
		body := appendBody(nil, 1<<40, 77, size)
		frame := unmasked(appendFrame(nil, opText, body))
		for _, cut := range []int{0, 1, 2, 3, 9, len(frame) - 1} {
			if _, _, rest, ok := cutFrame(frame[:cut]); ok || len(rest) != cut {
				t.Fatalf("size %d: a frame in %d of %d bytes", size, cut, len(frame))
			}
		}
		first, payload, rest, ok := cutFrame(append(frame, 0x81))
		if !ok || first != finBit|opText || !bytes.Equal(payload, body) || len(rest) != 1 {
			t.Fatalf("size %d: first %#x, %d bytes, %d left, %v", size, first, len(payload), len(rest), ok)
		}
		if at, seq, ok := cutBody(payload); at != 1<<40 || seq != 77 || !ok {
			t.Fatalf("size %d: time %d, number %d, %v", size, at, seq, ok)
		}
	}
}

// unmasked turns a client's frame into a server's.
func unmasked(frame []byte) []byte {
	head := 2
	switch frame[1] & 0x7f {
	case 126:
		head = 4
	case 127:
		head = 10
	}
	out := append([]byte(nil), frame[:head]...)
	out[1] &= 0x7f
	for i, b := range frame[head+4:] {
		out = append(out, b^maskKey[i&3])
	}
	return out
}
