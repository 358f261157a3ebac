package broker

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Retention says how much of a stream is kept. Publications beyond any of the bounds are discarded,
// the oldest first.
type Retention struct {
	// Messages is the number of publications. Zero or negative: none are kept.
	Messages int `json:"messages,omitempty"`
	// Age is how long a publication is kept. Zero: 24 hours. Negative: without bound.
	Age time.Duration `json:"age,omitempty"`
	// Bytes is the size of all publications, as [Publication.Size] counts it. Zero: 1 MiB.
	// Negative: without bound.
	Bytes int `json:"bytes,omitempty"`
}

// RoomStream returns the name of the stream that keeps the history of a room. The name can contain
// any bytes, like the name of a room: encode it before you use it as a key or a subject in a system
// that restricts them.
func RoomStream(room string) string { return roomPrefix + room }

// InboxStream returns the name of the stream that keeps the inbox of a user.
func InboxStream(user string) string { return inboxPrefix + user }

const (
	roomPrefix  = "room/"
	inboxPrefix = "user/"
)

// StreamRoom returns the room whose history a stream is. It reports false if the stream is not one.
func StreamRoom(stream string) (string, bool) { return strings.CutPrefix(stream, roomPrefix) }

// StreamUser returns the user whose inbox a stream is. It reports false if the stream is not one.
func StreamUser(stream string) (string, bool) { return strings.CutPrefix(stream, inboxPrefix) }

// Publication is one message with its target and, if it is kept, its stream and position. It is
// plain data, so that a [Broker] can keep it and carry it to other processes. Nobody may change
// what it refers to.
type Publication struct {
	// Stream is the stream that keeps the publication. Empty: it is only carried.
	Stream string `json:"stream,omitempty"`
	// Target says who receives the publication. Its exceptions also apply to history and recovery.
	Target  Target  `json:"target"`
	Message Message `json:"message"`
	// Keep says how much of the stream is kept from now on. All defaults are filled in: zero means
	// without bound.
	Keep Retention `json:"keep,omitzero"`
	// Union means that the message has other targets too, and that their streams may keep it as
	// well, with the same Sender, Guest and ID. A connection in several of the targets receives it
	// once.
	Union bool `json:"union,omitempty"`
	// Shared means that the senders that share the stream must not displace each other's kept
	// publications; see [Broker.Publish]. It is not kept with the publication.
	Shared bool `json:"shared,omitempty"`

	// The broker sets the rest.

	// Position is the position of the publication, and Prev the offset of the previous one in the
	// stream, zero if there is none.
	Position Position `json:"position,omitzero"`
	Prev     uint64   `json:"prev,omitempty"`
	// At is when the broker took the publication: Keep.Age and Message.TTL count from then.
	At time.Time `json:"at,omitzero"`

	// Origin belongs to the publisher. A broker passes it on unchanged when it delivers the
	// publication in the process that published it, and does not store it.
	Origin any `json:"-"`
}

// publicationBytes is approximately what a publication takes in addition to its strings.
const publicationBytes = 256

// Size returns approximately how much memory the publication takes, in bytes.
func (p *Publication) Size() int {
	m := &p.Message
	names := len(m.Type) + len(m.Sender) + len(m.Guest) + len(m.Conn) + len(m.ID) + len(m.Latest)
	return publicationBytes + names + len(m.Content) + len(m.Binary)
}

// Follows reports whether p is the next publication after at.
func (p *Publication) Follows(at Position) bool {
	return p.Prev == at.Offset && p.Position.Epoch == at.Epoch
}

// Expired reports whether the time to live of p has passed.
func (p *Publication) Expired(now time.Time) bool {
	return p.Message.TTL > 0 && now.Sub(p.At) >= p.Message.TTL
}

// AppendBinary appends the encoding that UnmarshalBinary reads: the length of the header as an
// unsigned varint, the header in JSON, and the content unchanged. It returns an error of
// encoding/json for a time that JSON cannot represent.
func (p *Publication) AppendBinary(buf []byte) ([]byte, error) {
	envelope := *p
	envelope.Message.Content, envelope.Message.Binary = nil, nil
	header, err := json.Marshal(struct {
		*Publication
		IsBinary bool `json:"is_binary,omitempty"`
	}{&envelope, p.Message.Binary != nil})
	if err != nil {
		return nil, err
	}
	buf = binary.AppendUvarint(buf, uint64(len(header)))
	return append(append(append(buf, header...), p.Message.Content...), p.Message.Binary...), nil
}

// UnmarshalBinary reads the encoding of AppendBinary. It keeps no reference to data. It returns
// ErrPublication for anything else.
func (p *Publication) UnmarshalBinary(data []byte) error {
	n, size := binary.Uvarint(data)
	if size <= 0 || n > uint64(len(data)-size) {
		return fmt.Errorf("%w: no header", ErrPublication)
	}
	var in struct {
		Publication
		IsBinary bool `json:"is_binary"`
	}
	header, content := data[size:size+int(n)], data[size+int(n):]
	if err := json.Unmarshal(header, &in); err != nil {
		return fmt.Errorf("%w: %w", ErrPublication, err)
	}
	*p = in.Publication
	p.Message.Content, p.Message.Binary = nil, nil
	switch {
	case in.IsBinary:
		p.Message.Binary = append([]byte{}, content...)
	case len(content) > 0:
		p.Message.Content = bytes.Clone(content)
	}
	return nil
}

// Published is the result of a broker for one publication.
type Published struct {
	Position Position // zero if the publication is not kept
	// Duplicate means that a publication with the same sender and id was taken before, so this one
	// was ignored. Position is the position of the first one.
	Duplicate bool
	// Full means that the publication was Shared and its sender already has as much in the stream
	// as it may: the publication was neither taken nor delivered.
	Full bool
}
