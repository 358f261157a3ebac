package realtime

import (
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/wire"
)

// press compresses messages for those who negotiated it, each message once.
type press struct {
	from  int // bytes; 0 is never
	tally *tally
	sendqueue.Deflater
}

// squeeze adds the compressed forms, where they are smaller and there may be a receiver
// for them. It takes long beside a push, so it runs before any lock is taken, as encode does.
func (p *press) squeeze(f *wire.Frames) {
	if p.from == 0 || p.tally.deflating.Load() == 0 {
		return
	}
	for i := range f.Forms {
		form := &f.Forms[i]
		if form.Plain == nil || len(form.Plain.Payload()) < p.from {
			continue
		}
		form.Deflated = p.Deflate(form.Plain)
		if wire.Protocol(i) != wire.ProtoPlain {
			form.Deflated = wire.Announced(form.Deflated)
		}
		if form.Deflated != nil {
			p.tally.add(cCompressed, 1)
		}
	}
}

// settle counts the frames that were pushed against the memory budget. It is called once
// all have them who get them.
func (t *tally) settle(f *wire.Frames) {
	for _, forms := range f.Forms {
		for _, form := range []*sendqueue.Frame{forms.Plain, forms.Deflated} {
			if form != nil {
				t.frames.Budget.Settle(form)
			}
		}
	}
}
