package realtime

import (
	"strconv"
	"sync/atomic"

	"github.com/realtime-go/realtime/internal/sendqueue"
)

// frames is one message on the wire, once for each protocol that a receiver speaks.
// All receivers share them.
type frames struct {
	m     Message
	place spot
	forms [numProtocols]forms
}

// of returns the message as a connection understands it.
func (f *frames) of(p protocol, deflates bool) *sendqueue.Frame {
	form := &f.forms[p]
	if form.plain == nil { // the first who speaks it came when the rest was encoded already
		form.plain = encodeIn(p, &f.m, &f.place)
	}
	return form.of(deflates)
}

// uniform is a message that is the same in every protocol.
func uniform(frame *sendqueue.Frame) *frames {
	f := &frames{}
	for p := range f.forms {
		f.forms[p].plain = frame
	}
	return f
}

// forms is one message of a protocol.
type forms struct {
	plain    *sendqueue.Frame
	deflated *sendqueue.Frame // nil if the plain form is for everybody
}

// of returns the form for a receiver who negotiated compression, or did not. Each message
// says whether it is compressed, so the plain form is right for everybody.
func (f forms) of(deflates bool) *sendqueue.Frame {
	if deflates && f.deflated != nil {
		return f.deflated
	}
	return f.plain
}

// envelope is about what the members around a message's content take.
const envelope = 96

// languages counts the connections that speak each protocol.
type languages [numProtocols]atomic.Int64

// encode builds the frames of a message for the protocols that somebody speaks. No room is locked
// while it runs.
func (l *languages) encode(m *Message, at spot) frames {
	f := frames{m: *m, place: at}
	for p := range f.forms {
		if l[p].Load() > 0 {
			f.forms[p].plain = encodeIn(protocol(p), m, &f.place)
		}
	}
	return f
}

func encodeIn(p protocol, m *Message, at *spot) *sendqueue.Frame {
	size := envelope + len(m.Type) + len(m.Sender) + len(m.Guest) + len(m.ID) +
		len(m.Content) + len(m.Binary)
	buf := sendqueue.Grow(size + at.size())
	switch {
	case p == protoPlain:
		return sendqueue.Seal(sendqueue.OpText, appendPlain(buf, m))
	case m.Binary != nil:
		return announced(sendqueue.Seal(sendqueue.OpBinary, appendBinary(buf, m, at)))
	default:
		return announced(sendqueue.Seal(sendqueue.OpText, appendV1(buf, m, at)))
	}
}

// largeFrame is from how many bytes on a frame of realtime.v1 is announced. A page sees nothing of
// a message before its end, and would take a slow link for a dead one: it may have asked for a sign
// of life just when the message was on its way, and waits 10 s then.
const largeFrame = 8 << 10

// announced puts a frame that says how large it is in front of a large one.
func announced(f *sendqueue.Frame) *sendqueue.Frame {
	if f == nil || f.Len() < largeFrame {
		return f
	}
	buf := append(sendqueue.Grow(envelope), `{"message_type":"large","bytes":`...)
	buf = append(strconv.AppendInt(buf, int64(f.Len()), 10), '}')
	return f.After(sendqueue.Seal(sendqueue.OpText, buf))
}

// settle counts the frames that were pushed against the memory budget. It is called once
// all have them who get them.
func (f *frames) settle(t *tally) {
	for _, forms := range f.forms {
		for _, form := range []*sendqueue.Frame{forms.plain, forms.deflated} {
			if form != nil {
				t.frames.Budget.Settle(form)
			}
		}
	}
}

// pong answers a client's textual ping.
func pong() *sendqueue.Frame { return sendqueue.NewFrame(sendqueue.OpText, []byte("pong")) }

// reply answers a request, or with an error one that failed.
func reply(id, content []byte, e *Error) *sendqueue.Frame {
	if e != nil {
		return sendqueue.Seal(sendqueue.OpText, appendError(sendqueue.Grow(envelope), id, e))
	}
	buf := appendReply(sendqueue.Grow(envelope+len(content)), id, content)
	return announced(sendqueue.Seal(sendqueue.OpText, buf))
}

// left tells a client that it was taken out of a room.
func left(room string) *sendqueue.Frame {
	buf := append(sendqueue.Grow(envelope), `{"message_type":"left","room":`...)
	return sendqueue.Seal(sendqueue.OpText, append(appendString(buf, room), '}'))
}

// positionFrame tells a client where it is in a stream: what lies before is not for it, or for a
// reason is lost.
func positionFrame(room string, at Position, why Reason) *sendqueue.Frame {
	buf := append(sendqueue.Grow(envelope), `{"message_type":"position"`...)
	if room != "" {
		buf = appendString(append(buf, `,"room":`...), room)
	}
	buf = appendPosition(buf, at)
	if why != "" {
		buf = appendString(append(buf, `,"recovered":false,"reason":`...), string(why))
	}
	return sendqueue.Seal(sendqueue.OpText, append(buf, '}'))
}

// skippedFrame tells a client that messages were dropped which it is never given.
func skippedFrame(room string, from uint64, to Position) *sendqueue.Frame {
	buf := append(sendqueue.Grow(envelope), `{"message_type":"skipped"`...)
	if room != "" {
		buf = appendString(append(buf, `,"room":`...), room)
	}
	buf = strconv.AppendUint(append(buf, `,"from":`...), from, 10)
	buf = strconv.AppendUint(append(buf, `,"to":`...), to.Offset, 10)
	buf = appendString(append(buf, `,"epoch":`...), to.Epoch)
	return sendqueue.Seal(sendqueue.OpText, append(buf, `,"reason":"slow"}`...))
}

// press compresses messages for those who negotiated it, each message once.
type press struct {
	from  int // bytes; 0 is never
	tally *tally
	sendqueue.Deflater
}

// squeeze adds the compressed forms, where they are smaller and there may be a receiver
// for them. It takes long beside a push, so it runs before any lock is taken, as encode does.
func (p *press) squeeze(f *frames) {
	if p.from == 0 || p.tally.deflating.Load() == 0 {
		return
	}
	for i := range f.forms {
		form := &f.forms[i]
		if form.plain == nil || len(form.plain.Payload()) < p.from {
			continue
		}
		form.deflated = p.Deflate(form.plain)
		if protocol(i) != protoPlain {
			form.deflated = announced(form.deflated)
		}
		if form.deflated != nil {
			p.tally.add(cCompressed, 1)
		}
	}
}
