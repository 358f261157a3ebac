//go:build linux

package load

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
)

// terms are on what compression is negotiated: each message by itself, so that a server can
// compress a broadcast once for all, and each can be inflated whatever came before it.
const terms = "permessage-deflate; client_no_context_takeover; server_no_context_takeover"

// maxKnown is how many payloads an inflater remembers, far more than are in flight.
const maxKnown = 1024

// inflater inflates what a server has compressed. To inflate every delivery would measure
// this generator. But what is compressed is mostly the same for all receivers, so a payload
// is inflated when it comes for the first time, and known again by its bytes, all of them.
type inflater struct {
	known map[string][]byte
}

// inflate returns what is in the payload of a message of one frame. It is valid until the
// next call.
func (z *inflater) inflate(first byte, payload []byte) ([]byte, error) {
	if text, ok := z.known[string(payload)]; ok {
		return text, nil
	}
	if first&finBit == 0 {
		return nil, fmt.Errorf("a compressed message in several frames")
	}
	// A message ends with the head of an empty block, RFC 7692 section 7.2.2. One more ends
	// the stream.
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
