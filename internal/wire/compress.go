package wire

import (
	"cmp"

	"github.com/realtime-go/realtime/internal/sendqueue"
)

// Compressor makes the compressed form of frames, once for all receivers. It is safe for concurrent
// use.
type Compressor struct {
	from     int // bytes; zero means never
	speakers *Speakers
	made     func()
	deflater sendqueue.Deflater
}

// NewCompressor returns a Compressor of messages of at least from bytes. Zero means that it
// compresses nothing. made is called for each compressed frame.
func NewCompressor(from int, s *Speakers, made func()) *Compressor {
	return &Compressor{from: from, speakers: s, made: made}
}

// Compress adds compressed frames to f where they are smaller and a receiver may want them. It
// takes long compared with a push, so no lock should be held.
func (c *Compressor) Compress(f *Frames) {
	if c.from == 0 || c.speakers.Deflating() == 0 {
		return
	}
	for i := range f.encodings {
		form := &f.encodings[i]
		if form.Plain != nil {
			form.Deflated = c.deflated(form.Plain, Protocol(i))
		}
	}
}

// Smaller returns the compressed form of a frame of realtime.v1, or plain if that is short or no
// larger.
func (c *Compressor) Smaller(plain *sendqueue.Frame) *sendqueue.Frame {
	return cmp.Or(c.deflated(plain, ProtoV1), plain)
}

// deflated returns the compressed form of a frame, or nil if it is short or no larger.
func (c *Compressor) deflated(plain *sendqueue.Frame, p Protocol) *sendqueue.Frame {
	if c.from == 0 || len(plain.Payload()) < c.from {
		return nil
	}
	f := c.deflater.Deflate(plain)
	if f == nil {
		return nil
	}
	c.made()
	if p == ProtoPlain {
		return f
	}
	return Announced(f)
}
