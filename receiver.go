package realtime

import (
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/wire"
)

// receiver is what a connection is to who sends to it. A room has a copy of it for each
// member, so that its walk through thousands of them waits for less memory.
type receiver struct {
	link     *sendqueue.Queue
	proto    wire.Protocol
	deflates bool // the transport negotiated compression
	checks   bool // its subscription has to be asked, see recovery.Subscriber
}

// push gives the connection its form of a message.
func (r *receiver) push(f *wire.Frames, class sendqueue.Priority, policy sendqueue.Policy) sendqueue.Outcome {
	return r.link.Push(f.For(r.proto, r.deflates), class, policy)
}

// plain returns a receiver without a subscription. It may be called without the lock of that.
func (r *receiver) plain() receiver {
	return receiver{link: r.link, proto: r.proto, deflates: r.deflates}
}
