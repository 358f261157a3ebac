//go:build linux

package load

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
)

// terms are the terms of compression: without context takeover, so that a server can compress a
// broadcast once for all receivers, and each message can be inflated by itself.
const terms = "permessage-deflate; client_no_context_takeover; server_no_context_takeover"

// maxKnown is the number of payloads that an inflater remembers. It is far more than are in flight.
const maxKnown = 1024

// inflater decompresses messages of a server. Decompressing every delivery would measure the
// generator. Mostly all receivers get the same bytes, so each payload is decompressed once and then
// looked up by its bytes.
type inflater struct {
	known map[string][]byte
}

// inflate returns the text of a compressed message of one frame. It is valid until the next call.
func (z *inflater) inflate(first byte, payload []byte) ([]byte, error) {
	if text, ok := z.known[string(payload)]; ok {
		return text, nil
	}
	if first&finBit == 0 {
		return nil, fmt.Errorf("a compressed message in several frames")
	}
	// A message ends with the header of an empty block whose rest is not sent, RFC 7692 section
	// 7.2.2. The second empty block is the last one of the stream.
	const tail = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"
	whole := append(bytes.Clone(payload), tail...)
	text, err := io.ReadAll(flate.NewReader(bytes.NewReader(whole)))
	if err != nil {
		return nil, fmt.Errorf("compressed message: %w", err)
	}
	if z.known == nil || len(z.known) >= maxKnown {
		z.known = make(map[string][]byte)
	}
	z.known[string(payload)] = text
	return text, nil
}
