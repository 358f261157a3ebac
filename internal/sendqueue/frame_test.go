package sendqueue

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// The lengths at which RFC 6455 section 5.2 changes the form of the header.
func TestFrameHeaders(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 127, 0xFFFF, 0x10000, 200_000} {
		payload := bytes.Repeat([]byte("x"), n)
		f := NewFrame(OpText, payload)
		require.Equal(t, OpText, f.Op())
		require.Equal(t, payload, append([]byte{}, f.Payload()...))
		require.Equal(t, len(f.Wire()), f.Len())
		head := f.Wire()[:f.Len()-n]
		require.Equal(t, byte(0x81), head[0])
		switch {
		case n <= 125:
			require.Equal(t, []byte{0x81, byte(n)}, head)
		case n <= 0xFFFF:
			require.Equal(t, byte(126), head[1])
			require.EqualValues(t, n, binary.BigEndian.Uint16(head[2:]))
			require.Len(t, head, 4)
		default:
			require.Equal(t, byte(127), head[1])
			require.EqualValues(t, n, binary.BigEndian.Uint64(head[2:]))
			require.Len(t, head, 10)
		}
	}
}

func TestNewFrameCopies(t *testing.T) {
	payload := []byte("abc")
	f := NewFrame(OpBinary, payload)
	payload[0] = 'X'
	require.Equal(t, "abc", string(f.Payload()))
}

func TestCloseFrame(t *testing.T) {
	f := CloseFrame(4300, "too slow")
	require.Equal(t, OpClose, f.Op())
	require.EqualValues(t, 4300, binary.BigEndian.Uint16(f.Payload()))
	require.Equal(t, "too slow", string(f.Payload()[2:]))
	require.Empty(t, CloseFrame(1005, "ignored").Payload(), "1005 is never on the wire")
}

func TestCutReason(t *testing.T) {
	require.Equal(t, strings.Repeat("a", 123), CutReason(strings.Repeat("a", 200)))
	cut := CutReason(strings.Repeat("ü", 100)) // two bytes each, so that byte 123 is inside one
	require.Len(t, cut, 122)
	require.True(t, utf8.ValidString(cut))
	require.Equal(t, "a\uFFFDb", CutReason("a\xffb"))
	require.Equal(t, "", CutReason(""))
}

func TestJoin(t *testing.T) {
	sized := func(sizes ...int) (frames []*Frame) {
		for _, n := range sizes {
			frames = append(frames, &Frame{wire: bytes.Repeat([]byte{byte(len(frames))}, n)})
		}
		return frames
	}
	var buf []byte
	for _, c := range []struct {
		sizes []int
		limit int
		want  []int // sizes of the writes
	}{
		{[]int{10, 20, 30}, 100, []int{60}},
		{[]int{60, 40, 1}, 100, []int{100, 1}},
		{[]int{60, 41, 59}, 100, []int{60, 100}},
		{[]int{100, 10, 10, 200, 10}, 100, []int{100, 20, 200, 10}},
		{[]int{10, directFrame, 10}, 1 << 20, []int{10, directFrame, 10}},
		{[]int{directFrame - 1, directFrame - 1}, 1 << 20, []int{2 * (directFrame - 1)}},
		{[]int{10}, 1, []int{10}},
	} {
		frames := sized(c.sizes...)
		var sizes []int
		var got, want []byte
		for i := 0; i < len(frames); {
			p, next := Join(frames, i, c.limit, &buf)
			require.Greater(t, next, i)
			sizes, got, i = append(sizes, len(p)), append(got, p...), next
		}
		for _, f := range frames {
			want = append(want, f.wire...)
		}
		require.Equal(t, c.want, sizes)
		require.True(t, bytes.Equal(want, got))
	}
}

// Two frames are one on the wire.
func TestFrameAfter(t *testing.T) {
	for _, n := range []int{1, 200, 100_000} {
		f := NewFrame(OpBinary, bytes.Repeat([]byte("x"), n))
		both := f.After(text("announced"))
		require.Equal(t, OpBinary, both.Op())
		require.Equal(t, string(f.Payload()), string(both.Payload()))
		require.False(t, both.control())
		require.Equal(t, string(text("announced").Wire())+string(f.Wire()), string(both.Wire()))
		require.Equal(t, len(both.Wire()), both.Len())
	}
}
