package realtime

import "github.com/realtime-go/realtime/internal/sendqueue"

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

// settle counts the frames that were pushed against the memory budget. It is called once
// all have them who get them.
func (t *tally) settle(f *frames) {
	for _, forms := range f.forms {
		for _, form := range []*sendqueue.Frame{forms.plain, forms.deflated} {
			if form != nil {
				t.frames.Budget.Settle(form)
			}
		}
	}
}
