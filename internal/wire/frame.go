package wire

import (
	"strconv"
	"sync/atomic"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/sendqueue"
)

// Frames is one message on the wire, once for each protocol that a receiver speaks.
// All receivers share them.
type Frames struct {
	M     broker.Message
	place Spot
	Forms [numProtocols]forms
}

// Of returns the message as a connection understands it.
func (f *Frames) Of(p Protocol, deflates bool) *sendqueue.Frame {
	form := &f.Forms[p]
	if form.Plain == nil { // the first who speaks it came when the rest was encoded already
		form.Plain = EncodeIn(p, &f.M, &f.place)
	}
	return form.Of(deflates)
}

// Uniform is a message that is the same in every protocol.
func Uniform(frame *sendqueue.Frame) *Frames {
	f := &Frames{}
	for p := range f.Forms {
		f.Forms[p].Plain = frame
	}
	return f
}

// forms is one message of a protocol.
type forms struct {
	Plain    *sendqueue.Frame
	Deflated *sendqueue.Frame // nil if the plain form is for everybody
}

// Of returns the form for a receiver who negotiated compression, or did not. Each message
// says whether it is compressed, so the plain form is right for everybody.
func (f forms) Of(deflates bool) *sendqueue.Frame {
	if deflates && f.Deflated != nil {
		return f.Deflated
	}
	return f.Plain
}

// Envelope is about what the members around a message's content take.
const Envelope = 96

// Settle counts the frames that were pushed against a budget. It is called once, after the last
// push.
func (f *Frames) Settle(b *sendqueue.Budget) {
	for _, form := range f.Forms {
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
	conns     [numProtocols]atomic.Int64
	deflating atomic.Int64
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

// Encode builds the frames of a message for the protocols that somebody speaks. No room is locked
// while it runs.
func (s *Speakers) Encode(m *broker.Message, at Spot) Frames {
	f := Frames{M: *m, place: at}
	for p := range f.Forms {
		if s.conns[p].Load() > 0 {
			f.Forms[p].Plain = EncodeIn(Protocol(p), m, &f.place)
		}
	}
	return f
}

// EncodeIn returns the frame of a message in one protocol.
func EncodeIn(p Protocol, m *broker.Message, at *Spot) *sendqueue.Frame {
	size := Envelope + len(m.Type) + len(m.Sender) + len(m.Guest) + len(m.ID) +
		len(m.Content) + len(m.Binary)
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

// LargeFrame is from how many bytes on a frame of realtime.v1 is announced. A page sees nothing of
// a message before its end, and would take a slow link for a dead one: it may have asked for a sign
// of life just when the message was on its way, and waits 10 s then.
const LargeFrame = 8 << 10

// Announced puts a frame that says how large it is in front of a large one.
func Announced(f *sendqueue.Frame) *sendqueue.Frame {
	if f == nil || f.Len() < LargeFrame {
		return f
	}
	buf := append(sendqueue.Grow(Envelope), `{"message_type":"large","bytes":`...)
	buf = append(strconv.AppendInt(buf, int64(f.Len()), 10), '}')
	return f.After(sendqueue.Seal(sendqueue.OpText, buf))
}

// Pong answers a client's textual ping.
func Pong() *sendqueue.Frame { return sendqueue.NewFrame(sendqueue.OpText, []byte("pong")) }

// Error is an answer that says what is wrong.
type Error struct{ Code, Message string }

// Reply answers a request, or with an error one that failed.
func Reply(id, content []byte, e *Error) *sendqueue.Frame {
	if e != nil {
		return sendqueue.Seal(sendqueue.OpText, appendError(sendqueue.Grow(Envelope), id, e))
	}
	buf := appendReply(sendqueue.Grow(Envelope+len(content)), id, content)
	return Announced(sendqueue.Seal(sendqueue.OpText, buf))
}

// Left tells a client that it was taken out of a room.
func Left(room string) *sendqueue.Frame {
	buf := append(sendqueue.Grow(Envelope), `{"message_type":"left","room":`...)
	return sendqueue.Seal(sendqueue.OpText, append(AppendString(buf, room), '}'))
}

// PositionFrame tells a client where it is in a stream: what lies before is not for it, or for a
// reason is lost.
func PositionFrame(room string, at broker.Position, why broker.Reason) *sendqueue.Frame {
	buf := append(sendqueue.Grow(Envelope), `{"message_type":"position"`...)
	if room != "" {
		buf = AppendString(append(buf, `,"room":`...), room)
	}
	buf = appendPosition(buf, at)
	if why != "" {
		buf = AppendString(append(buf, `,"recovered":false,"reason":`...), string(why))
	}
	return sendqueue.Seal(sendqueue.OpText, append(buf, '}'))
}

// SkippedFrame tells a client that messages were dropped which it is never given.
func SkippedFrame(room string, from uint64, to broker.Position) *sendqueue.Frame {
	buf := append(sendqueue.Grow(Envelope), `{"message_type":"skipped"`...)
	if room != "" {
		buf = AppendString(append(buf, `,"room":`...), room)
	}
	buf = strconv.AppendUint(append(buf, `,"from":`...), from, 10)
	buf = strconv.AppendUint(append(buf, `,"to":`...), to.Offset, 10)
	buf = AppendString(append(buf, `,"epoch":`...), to.Epoch)
	return sendqueue.Seal(sendqueue.OpText, append(buf, `,"reason":"slow"}`...))
}
