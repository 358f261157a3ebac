package wire

import "github.com/realtime-go/realtime/internal/sendqueue"

// Compressor adds the compressed form to messages, once for all receivers.
type Compressor struct {
	from     int // bytes; zero means never
	speakers *Speakers
	deflater sendqueue.Deflater
}

// NewCompressor returns a Compressor of messages of at least from bytes. Zero means that it
// compresses nothing.
func NewCompressor(from int, s *Speakers) *Compressor {
	return &Compressor{from: from, speakers: s}
}

// Compress adds compressed encoding to f where they are smaller and a receiver may want them, and
// returns their number. It takes long compared with a push, so no lock should be held.
func (c *Compressor) Compress(f *Frames) (n int) {
	if c.from == 0 || c.speakers.Deflating() == 0 {
		return 0
	}
	for i := range f.encodings {
		form := &f.encodings[i]
		if form.Plain == nil || len(form.Plain.Payload()) < c.from {
			continue
		}
		form.Deflated = c.deflater.Deflate(form.Plain)
		if Protocol(i) != ProtoPlain {
			form.Deflated = Announced(form.Deflated)
		}
		if form.Deflated != nil {
			n++
		}
	}
	return n
}
