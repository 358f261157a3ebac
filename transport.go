package realtime

import (
	"time"

	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/wire"
)

// closeGrace is how long a link has to say what is queued and goodbye, and the peer
// to answer.
const closeGrace = time.Second

// slowGrace is closeGrace for a link whose peer reads too slowly: it gets all of the frame that is
// half written and then the close frame, as long as it takes something now and then.
const slowGrace = 5 * time.Second

// maxAfterlife is how many bytes are read of a peer whose connection has ended. What comes
// behind is left in the kernel, for as long as the peer has to answer.
const maxAfterlife = 1 << 20

// Transport is one attached way to reach a peer, given to [Manager.Register]. There
// are two: the WebSocket that [Manager.ServeHTTP] makes, and [Pipe] in memory. The
// interface is sealed, because the engine relies on how they read and write.
type Transport interface {
	// RemoteAddr returns the peer's address for humans, or "pipe".
	RemoteAddr() string

	// protocol returns what the peer speaks.
	protocol() wire.Protocol
	// deflates reports whether the peer takes messages that are compressed.
	deflates() bool
	// wire is the send side, for the link that is about to be attached.
	wire() sendqueue.Wire
	// attach gives the transport its link and the ears of its connection, and says how
	// many bytes a message may have.
	attach(l *sendqueue.Queue, e ears, maxMessage int)
	// receive blocks for the next message and appends it to buf, which it owns until
	// it returns. With wait false, or after nudge, it may return inbound.ErrQuiet in place
	// of waiting between two messages. Any other error is a *CloseError. One goroutine
	// calls it at a time.
	receive(buf []byte, wait bool) (sendqueue.Op, []byte, error)
	// ahead reports whether more has come than receive has returned, as far as it can tell: if
	// not, true. Whoever receives calls it.
	ahead() bool
	// unseen is how many bytes of a message may have come of which alive was told nothing.
	unseen() int
	// nudge asks a receive that waits to return inbound.ErrQuiet. It reports false if the
	// transport cannot park.
	nudge() bool
	// park has the ears woken once there is something to receive, and reports true; nobody
	// may call receive until then. False means that it cannot be done now.
	park() bool
	// discard reads what the peer still sends after a receive that failed, until it hangs up,
	// closeGrace has passed or it is too much: closing a socket with unread input resets
	// it, and what was written last may not arrive.
	discard()
	// release frees what the transport holds. It is called once, after the last
	// receive and after the link is done.
	release()
}

// ears are what a transport tells its connection. Only alive may block, which the goroutine
// that reads calls.
type ears interface {
	alive(n int)         // n bytes came in
	holds(bytes int)     // so much memory is taken by a message that is not complete
	waiting(inside bool) // it is about to wait: inside a message, or between two
	ping() bool          // a ping came in; false: too many
	pong(payload string) // a pong came in
	wake()               // there is something to receive, after park
}

// tooBig says what the scanner says of a message that announces its size.
func tooBig() *CloseError {
	return &CloseError{Cause: CauseProtocol, Code: CloseTooBig, Reason: "message is too large"}
}
