package realtime

import "github.com/realtime-go/realtime/internal/engine"

// frames is one message on the wire, once for each protocol that a receiver speaks.
// All receivers share them.
type frames [numProtocols]*engine.Frame

// envelope is about what the members around a message's content take.
const envelope = 96

// encode builds the frames of a message. It runs before any lock is taken.
func encode(m *Message) *frames {
	buf := engine.Grow(envelope + len(m.Type) + len(m.Sender) + len(m.Content))
	return &frames{
		protoPlain: engine.Seal(engine.OpText, appendPlain(buf, m)),
	}
}

// pong answers a client's textual ping.
func pong() *engine.Frame { return engine.NewFrame(engine.OpText, []byte("pong")) }
