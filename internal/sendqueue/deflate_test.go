package sendqueue

import (
	"compress/flate"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// inflate decompresses a frame as a receiver does, RFC 7692 section 7.2.2. The second mark is an
// empty last block, which ends the stream.
func inflate(t *testing.T, f *Frame) string {
	t.Helper()
	const end = flushMark + "\x01\x00\x00\xff\xff"
	p, err := io.ReadAll(flate.NewReader(strings.NewReader(string(f.Payload()) + end)))
	require.NoError(t, err)
	return string(p)
}

// A compressed message ends with the header of the block whose rest is not sent, see the examples
// in RFC 7692 section 7.2.3.
func TestDeflate(t *testing.T) {
	var d Deflater
	text := strings.Repeat(`{"user":"alice"},`, 100)
	plain := NewFrame(OpText, []byte(text))
	f := d.Deflate(plain)
	require.Equal(t, byte(0xC1), f.Wire()[0], "FIN, RSV1, text")
	require.Equal(t, OpText, f.Op())
	require.Less(t, f.Len(), 100)
	require.Equal(t, byte(0), f.Payload()[len(f.Payload())-1])
	require.NotContains(t, string(f.Payload()), flushMark)
	require.Equal(t, text, inflate(t, f))
	require.Equal(t, byte(0x81), plain.Wire()[0], "the plain frame does not change")
	require.Equal(t, text, string(plain.Payload()))
	require.Equal(t, byte(0xC2), d.Deflate(NewFrame(OpBinary, []byte(text))).Wire()[0])
}

func TestDeflateReturnsNilUnlessSmaller(t *testing.T) {
	var d Deflater
	require.Nil(t, d.Deflate(NewFrame(OpText, nil)))
	require.Nil(t, d.Deflate(NewFrame(OpText, []byte("abc"))))
	noise := make([]byte, 4096)
	seed := uint32(1)
	for i := range noise {
		seed = seed*1664525 + 1013904223
		noise[i] = byte(seed >> 24)
	}
	require.Nil(t, d.Deflate(NewFrame(OpBinary, noise)))
}

// A reused compressor keeps no state: each output is independent, and earlier output does not
// change.
func TestDeflateReuse(t *testing.T) {
	var d Deflater
	var texts [200]string
	var frames [len(texts)]*Frame
	var work sync.WaitGroup
	for worker := range 4 {
		work.Go(func() {
			for i := worker; i < len(texts); i += 4 {
				texts[i] = strings.Repeat(string(rune('a'+i%26))+"bcdef", 10+i*20)
				frames[i] = d.Deflate(NewFrame(OpText, []byte(texts[i])))
			}
		})
	}
	work.Wait()
	for i, f := range frames {
		require.Equal(t, texts[i], inflate(t, f))
	}
}

func FuzzDeflate(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte(strings.Repeat("hello", 1000)))
	f.Add([]byte("\x00\x00\xff\xff\x00\x00\xff\xff\x00\x00\xff\xff"))
	var d Deflater
	f.Fuzz(func(t *testing.T, p []byte) {
		plain := NewFrame(OpText, p)
		got := d.Deflate(plain)
		require.Equal(t, string(p), string(plain.Payload()))
		if got == nil {
			return
		}
		require.Less(t, got.Len(), plain.Len())
		require.Equal(t, string(p), inflate(t, got))
	})
}

func BenchmarkDeflate(b *testing.B) {
	var d Deflater
	f := NewFrame(OpText, []byte(strings.Repeat(`{"id":48151,"side":"buy","qty":62},`, 30)))
	b.ReportAllocs()
	for b.Loop() {
		if d.Deflate(f) == nil {
			b.Fatal("not smaller")
		}
	}
}
