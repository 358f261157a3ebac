package broker

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Retention says how much of a stream is kept. What is beyond any of the bounds is forgotten, the
// oldest first.
type Retention struct {
	// Messages is how many. Zero or negative: nothing is kept.
	Messages int `json:"messages,omitempty"`
	// Age is for how long. Zero: 24 hours. Negative: as long as the other bounds allow.
	Age time.Duration `json:"age,omitempty"`
	// Bytes is how much, as [Publication.Size] counts. Zero: 1 MiB. Negative: as long as the other
	// bounds allow.
	Bytes int `json:"bytes,omitempty"`
}

// RoomStream is the name of the stream in which a room is kept. It is any bytes, as a room's name
// is: encode it before it becomes a key or a subject of something that has rules for them.
func RoomStream(room string) string { return roomPrefix + room }

// InboxStream is the name of the stream in which messages to a user are kept.
func InboxStream(user string) string { return inboxPrefix + user }

const (
	roomPrefix  = "room/"
	inboxPrefix = "user/"
)

// StreamRoom returns the room that a stream is of, or reports false.
func StreamRoom(stream string) (string, bool) { return strings.CutPrefix(stream, roomPrefix) }

// StreamUser returns the user whose inbox a stream is, or reports false.
func StreamUser(stream string) (string, bool) { return strings.CutPrefix(stream, inboxPrefix) }

// Publication is one message on its way to its receivers, or one that is kept. It is plain data,
// so that a [Broker] can keep it and carry it to other processes. What it refers to must not be
// changed.
type Publication struct {
	// Stream is where it is kept. Empty: it is only carried.
	Stream string `json:"stream,omitempty"`
	// Target is for whom it is: who is left out is left out of history and recovery too.
	Target  Target  `json:"target"`
	Message Message `json:"message"`
	// Keep is how much of the stream is kept from now on, with every default filled in: zero is
	// without bound.
	Keep Retention `json:"keep,omitzero"`
	// Union says that the message has other targets too, in whose streams it may be kept as well,
	// under the same Sender, Guest and ID. A connection that is one of several gets it once.
	Union bool `json:"union,omitempty"`
	// Shared says that the stream is shared by senders that must not push out what is kept of each
	// other's, see [Broker.Publish]. It is not kept with the publication.
	Shared bool `json:"shared,omitempty"`

	// The rest is the broker's to say.

	// Position is its own, and Prev the offset of the one before it in the stream, zero if it is
	// the first.
	Position Position `json:"position,omitzero"`
	Prev     uint64   `json:"prev,omitempty"`
	// At is when the broker took it: Keep.Age and Message.TTL count from then.
	At time.Time `json:"at,omitzero"`

	// Origin is the publisher's own. A broker hands it on, unchanged, where it delivers the
	// publication in the process that published it, and does not store it.
	Origin any `json:"-"`
}

// publicationBytes is about what a publication takes beside its content.
const publicationBytes = 256

// Size is about how much memory it takes, in bytes.
func (p *Publication) Size() int {
	m := &p.Message
	names := len(m.Type) + len(m.Sender) + len(m.Guest) + len(m.ID) + len(m.Key)
	return publicationBytes + names + len(m.Content) + len(m.Binary)
}

// Follows reports whether p is the next one behind at.
func (p *Publication) Follows(at Position) bool {
	return p.Prev == at.Offset && p.Position.Epoch == at.Epoch
}

// Expired reports whether its time to live is over.
func (p *Publication) Expired(now time.Time) bool {
	return p.Message.TTL > 0 && now.Sub(p.At) >= p.Message.TTL
}

// AppendBinary appends the publication as UnmarshalBinary reads it: the length of a header as an
// unsigned varint, the header, which is JSON, and the content as it is. It returns an error of
// encoding/json for a time that JSON cannot have.
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

// UnmarshalBinary reads what AppendBinary has written. It keeps no reference to data. It returns
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

// Published is what a broker says of a publication that it has taken.
type Published struct {
	Position Position // zero if it is not kept
	Prev     uint64
	// Duplicate says that one of the same sender with the same id was taken before, and nothing
	// was done. The position is that of the first.
	Duplicate bool
	// Full says that the publication was Shared and its sender has as much in the stream as it may:
	// it was not taken, and nobody gets it.
	Full bool
}

// Query asks for a part of a stream.
type Query struct {
	// After and Before bound the offsets; neither is returned itself. Zero is no bound.
	After, Before uint64
	// Backwards asks for the newest first.
	Backwards bool
	// Limit is how many are returned at most, and Bytes how much they take together, as
	// [Publication.Size] counts; one is returned in any case. Zero: 100, 64 KiB.
	Limit, Bytes int
}

// The defaults of Query.
const (
	defaultLimit     = 100
	DefaultPageBytes = 64 << 10
)

// Resolved returns q with its defaults filled in. It is for brokers.
func (q Query) Resolved() Query {
	if q.Limit <= 0 {
		q.Limit = defaultLimit
	}
	if q.Bytes <= 0 {
		q.Bytes = DefaultPageBytes
	}
	return q
}

// Page is a part of a stream, as of one moment.
type Page struct {
	// Publications are in the order that was asked for, without those past their time to live.
	Publications []Publication
	// More says that more than these are within the bounds.
	More bool
	// Top is the position of the newest publication, also of one that is not kept any more. Its
	// epoch is empty if there is no such stream.
	Top Position
	// Floor is the offset of the newest publication that is not kept any more, zero if all are:
	// what is behind Floor is complete.
	Floor uint64
	// Why says what took those up to Floor away: [ReasonExpired], [ReasonOverflow] or
	// [ReasonTaken], or [ReasonEpoch] if they were damaged. Empty if Floor is zero.
	Why Reason
}

// Size is about what the publications take, in bytes.
func (pg *Page) Size() (bytes int) {
	for i := range pg.Publications {
		bytes += pg.Publications[i].Size()
	}
	return bytes
}

// GapAfter says why what is behind p is not all on the page, or in the pages behind it. It is empty if
// it is.
func (pg *Page) GapAfter(p Position) Reason {
	switch {
	case pg.Top.Epoch == "":
		return ReasonUnknown
	case p.Epoch != pg.Top.Epoch:
		return ReasonEpoch
	case p.Offset > pg.Top.Offset:
		return ReasonAhead
	case p.Offset < pg.Floor:
		return pg.Why
	}
	return ""
}

// Bottom is the position in front of all that is kept.
func (pg *Page) Bottom() Position { return Position{pg.Top.Epoch, pg.Floor} }
