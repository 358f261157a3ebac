package realtime

import "github.com/realtime-go/realtime/internal/engine"

// frames is one message on the wire, once for each protocol that a receiver speaks.
// All receivers share them.
type frames [numProtocols]forms

// forms is one message of a protocol.
type forms struct {
	plain    *engine.Frame
	deflated *engine.Frame // nil if the plain form is for everybody
}

// of returns the form for a receiver who negotiated compression, or did not. Each message
// says whether it is compressed, so the plain form is right for everybody.
func (f forms) of(deflates bool) *engine.Frame {
	if deflates && f.deflated != nil {
		return f.deflated
	}
	return f.plain
}

// envelope is about what the members around a message's content take.
const envelope = 96

// encode builds the frames of a message. No room is locked while it runs.
func encode(m *Message) frames {
	buf := engine.Grow(envelope + len(m.Type) + len(m.Sender) + len(m.Content))
	return frames{
		protoPlain: {plain: engine.Seal(engine.OpText, appendPlain(buf, m))},
	}
}

// settle counts the frames that were pushed against the memory budget. It is called once
// all have them who get them.
func (f *frames) settle(t *tally) {
	for _, forms := range f {
		for _, form := range []*engine.Frame{forms.plain, forms.deflated} {
			if form != nil {
				t.frames.Budget.Settle(form)
			}
		}
	}
}

// pong answers a client's textual ping.
func pong() *engine.Frame { return engine.NewFrame(engine.OpText, []byte("pong")) }

// press compresses messages for those who negotiated it, each message once.
type press struct {
	from  int // bytes; 0 is never
	tally *tally
	engine.Deflater
}

// squeeze adds the compressed forms, where they are smaller and there may be a receiver
// for them. It takes long beside a push, so it runs before any lock is taken, as encode does.
func (p *press) squeeze(f *frames) {
	if p.from == 0 || p.tally.deflating.Load() == 0 {
		return
	}
	for i := range f {
		if plain := f[i].plain; len(plain.Payload()) >= p.from {
			if f[i].deflated = p.Deflate(plain); f[i].deflated != nil {
				p.tally.add(cCompressed, 1)
			}
		}
	}
}
