package sendqueue

import (
	"bytes"
	"compress/flate"
	"sync"
)

const (
	// deflatedBit is RSV1, which marks a compressed message, RFC 7692 section 6.
	deflatedBit = 0x40
	// flushMark is the end of a flush. It is not sent, RFC 7692 section 7.2.1.
	flushMark = "\x00\x00\xff\xff"
	// level is the fastest one. It compresses 1 KiB of JSON to 34 % in 14 µs and 16 KiB to 22 % in
	// 100 µs; level 6 compresses them to 32 % in 31 µs and to 17 % in 270 µs. Higher levels also
	// clear half a megabyte for each message, whatever its size.
	level = flate.BestSpeed
)

// Deflater compresses frames with permessage-deflate without context takeover, RFC 7692. Each frame
// is compressed independently, so that all receivers share the result. The zero value is ready to
// use. A Deflater is safe for concurrent use.
type Deflater struct {
	idle sync.Pool // of *deflation; making one takes 1.2 MB and the time of 30 messages
}

// deflation is a compressor with its output buffer.
type deflation struct {
	w   *flate.Writer
	out bytes.Buffer
}

// Deflate returns the compressed form of plain, or nil if it is not smaller.
func (d *Deflater) Deflate(plain *Frame) *Frame {
	z, ok := d.idle.Get().(*deflation)
	if !ok {
		z = &deflation{}
		z.w, _ = flate.NewWriter(&z.out, level) // fails only for invalid levels
	}
	defer d.idle.Put(z)
	z.out.Reset()
	z.w.Reset(&z.out)
	_, _ = z.w.Write(plain.Payload()) // a buffer accepts everything
	_ = z.w.Flush()
	p := bytes.TrimSuffix(z.out.Bytes(), []byte(flushMark))
	if len(p) >= len(plain.Payload()) {
		return nil
	}
	f := NewFrame(plain.Op(), p)
	f.wire[0] |= deflatedBit // f is not shared yet
	return f
}
