package wire

import (
	"encoding/binary"
	"strconv"
	"sync/atomic"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/sendqueue"
)

// Frames is one message with its frames, one for each protocol in use. All receivers share them.
type Frames struct {
	Message   broker.Message
	Envelope  Envelope
	encodings [numProtocols]encoding
}

// For returns the frame for a connection. It encodes the message if Encode has not.
func (f *Frames) For(p Protocol, deflates bool) *sendqueue.Frame {
	form := &f.encodings[p]
	if form.Plain == nil {
		form.Plain = EncodeIn(p, &f.Message, &f.Envelope)
	}
	return form.For(deflates)
}

// Size returns the size of the frames that were made, in bytes.
func (f *Frames) Size() (n int) {
	for _, form := range f.encodings {
		for _, frame := range []*sendqueue.Frame{form.Plain, form.Deflated} {
			if frame != nil {
				n += frame.Len()
			}
		}
	}
	return n
}

// Uniform returns a message with the same frame in every protocol.
func Uniform(frame *sendqueue.Frame) *Frames {
	f := &Frames{}
	for p := range f.encodings {
		f.encodings[p].Plain = frame
	}
	return f
}

// encoding are the frames of one message in one protocol.
type encoding struct {
	Plain    *sendqueue.Frame
	Deflated *sendqueue.Frame // nil: all receivers get Plain
}

// For returns the frame for a receiver that has or has not negotiated compression. Each frame says
// whether it is compressed, so Plain is right for every receiver.
func (f encoding) For(deflates bool) *sendqueue.Frame {
	if deflates && f.Deflated != nil {
		return f.Deflated
	}
	return f.Plain
}

// Overhead is approximately the size of the members around a message's content, in bytes.
const Overhead = 96

// Settle counts the frames that were pushed against a budget. It is called once, after the last
// push.
func (f *Frames) Settle(b *sendqueue.Budget) {
	for _, form := range f.encodings {
		for _, frame := range []*sendqueue.Frame{form.Plain, form.Deflated} {
			if frame != nil {
				b.Settle(frame)
			}
		}
	}
}

// Speakers counts the connections that speak each protocol, and those that take compressed
// messages. The zero value is ready. It is safe for concurrent use.
type Speakers struct {
	// Each message reads the numbers, and what is beside them. Each connection that opens or ends
	// writes them, so they are not in the cache line of anything else.
	_         [7]uint64
	conns     [numProtocols]atomic.Int64
	deflating atomic.Int64
	_         [7]uint64
}

// Add counts n more connections, or fewer if n is negative.
func (s *Speakers) Add(p Protocol, deflates bool, n int64) {
	s.conns[p].Add(n)
	if deflates {
		s.deflating.Add(n)
	}
}

// Deflating returns the number of connections that take compressed messages.
func (s *Speakers) Deflating() int { return int(s.deflating.Load()) }

// Encode encodes a message for the protocols in use. It is called without the lock of a room.
func (s *Speakers) Encode(f *Frames) {
	for p := range f.encodings {
		if s.conns[p].Load() > 0 {
			f.encodings[p].Plain = EncodeIn(Protocol(p), &f.Message, &f.Envelope)
		}
	}
}

// EncodeIn returns the frame of a message in one protocol.
func EncodeIn(p Protocol, m *broker.Message, at *Envelope) *sendqueue.Frame {
	size := Overhead + len(m.Type) + len(m.Sender) + len(m.Guest) + len(m.ID) +
		len(m.Content) + len(m.Binary)
	if m.Ephemeral {
		size += len(`,"ephemeral":true`)
	}
	buf := sendqueue.Grow(size + at.size())
	switch {
	case p == ProtoPlain:
		return sendqueue.Seal(sendqueue.OpText, appendPlain(buf, m))
	case m.Binary != nil:
		return Announced(sendqueue.Seal(sendqueue.OpBinary, appendBinary(buf, m, at)))
	default:
		return Announced(sendqueue.Seal(sendqueue.OpText, appendV1(buf, m, at)))
	}
}

// LargeFrame is the size in bytes from which a frame of realtime.v1 is announced. A browser sees
// nothing of a message before its end, and would mistake a slow link for a dead one: if the page
// sends a ping while the message is on its way, it waits only 10 s for an answer.
const LargeFrame = 8 << 10

// Announced returns f. If f is large, it is preceded by a frame with its size.
func Announced(f *sendqueue.Frame) *sendqueue.Frame {
	if f.Len() < LargeFrame {
		return f
	}
	buf := append(sendqueue.Grow(Overhead), `{"message_type":"`+FrameLarge+`","bytes":`...)
	buf = append(strconv.AppendInt(buf, int64(f.Len()), 10), '}')
	return f.After(sendqueue.Seal(sendqueue.OpText, buf))
}

// Pong returns the answer to a textual ping.
func Pong() *sendqueue.Frame { return sendqueue.NewFrame(sendqueue.OpText, []byte(FramePong)) }

// Reply returns the answer to a request. If e is not nil, it is an error reply.
func Reply(id, content []byte, e *Error) *sendqueue.Frame {
	if e != nil {
		buf := appendError(sendqueue.Grow(Overhead+len(e.Data)), id, e)
		return Announced(sendqueue.Seal(sendqueue.OpText, buf))
	}
	buf := appendReply(sendqueue.Grow(Overhead+len(content)), id, content)
	return Announced(sendqueue.Seal(sendqueue.OpText, buf))
}

// BinaryReply returns the answer to a call whose content is bytes.
func BinaryReply(id, content []byte) *sendqueue.Frame {
	return binaryFrame(appendReply(nil, id, nil), content)
}

// Call returns a call of the server.
func Call(id []byte, method string, content Content) *sendqueue.Frame {
	if content.Binary != nil {
		return binaryFrame(AppendCall(nil, id, method, nil), content.Binary)
	}
	buf := sendqueue.Grow(Overhead + len(method) + len(content.JSON))
	return Announced(sendqueue.Seal(sendqueue.OpText, AppendCall(buf, id, method, content.JSON)))
}

// binaryFrame returns the frame of a header and the bytes that follow it.
func binaryFrame(header, content []byte) *sendqueue.Frame {
	buf := sendqueue.Grow(binary.MaxVarintLen64 + len(header) + len(content))
	return Announced(sendqueue.Seal(sendqueue.OpBinary, appendHeaded(buf, header, content)))
}

// Refusal returns the answer to an ephemeral message, a latest value or a state without an id. It names
// the type of the message and the room, unless they are empty.
func Refusal(typ, room string, e *Error) *sendqueue.Frame {
	buf := appendError(sendqueue.Grow(Overhead), nil, e)
	buf = buf[:len(buf)-2]
	if typ != "" {
		buf = AppendString(append(buf, `,"message_type":`...), typ)
	}
	if room != "" {
		buf = AppendString(append(buf, `,"room":`...), room)
	}
	return Announced(sendqueue.Seal(sendqueue.OpText, append(buf, '}', '}')))
}

// Left tells a client that its connection was removed from a room.
func Left(room string) *sendqueue.Frame {
	buf := append(sendqueue.Grow(Overhead), `{"message_type":"`+FrameLeft+`","room":`...)
	return sendqueue.Seal(sendqueue.OpText, append(AppendString(buf, room), '}'))
}

// PositionFrame tells a client its position in a stream. Messages before the position are not for
// the client or, if why is not empty, are lost for that reason.
func PositionFrame(room string, at broker.Position, why broker.Reason) *sendqueue.Frame {
	buf := append(sendqueue.Grow(Overhead), `{"message_type":"`+FramePosition+`"`...)
	if room != "" {
		buf = AppendString(append(buf, `,"room":`...), room)
	}
	buf = appendPosition(buf, at)
	if why != "" {
		buf = AppendString(append(buf, `,"recovered":false,"reason":`...), string(why))
	}
	return sendqueue.Seal(sendqueue.OpText, append(buf, '}'))
}

// SkippedFrame tells a client that messages were dropped and will not be sent again.
func SkippedFrame(room string, from uint64, to broker.Position) *sendqueue.Frame {
	buf := append(sendqueue.Grow(Overhead), `{"message_type":"`+FrameSkipped+`"`...)
	if room != "" {
		buf = AppendString(append(buf, `,"room":`...), room)
	}
	buf = strconv.AppendUint(append(buf, `,"from":`...), from, 10)
	buf = strconv.AppendUint(append(buf, `,"to":`...), to.Offset, 10)
	buf = AppendString(append(buf, `,"epoch":`...), to.Epoch)
	return sendqueue.Seal(sendqueue.OpText, append(buf, `,"reason":"slow"}`...))
}
