package transport

import (
	"errors"
	"io"
	"net"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/realtime-go/realtime/internal/disconnect"
	"github.com/realtime-go/realtime/internal/inbound"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/wire"
)

// CloseGrace is how long a connection that ends has to write its queue and the close frame, and
// then the peer to answer.
const CloseGrace = time.Second

// MaxAfterEnd is how many bytes are read from a peer after its connection has ended. More stays
// in the kernel until the peer has answered or CloseGrace is over.
const MaxAfterEnd = 1 << 20

// Transport is one way to reach a peer: a WebSocket or one end of a Pipe.
//
// Attach is called once, before anything of Reader. Release is called once, after the last
// method of Reader and after the queue has ended.
type Transport interface {
	Reader

	// RemoteAddr returns the address of the peer for humans, or "pipe".
	RemoteAddr() string
	// Protocol returns the protocol that the peer speaks.
	Protocol() wire.Protocol
	// Deflates reports whether the peer takes compressed messages.
	Deflates() bool
	// Wire returns the sending side, for the queue that Attach is given.
	Wire() sendqueue.Wire
	// Attach sets the queue and the receiver of events, and bounds the size of messages in bytes.
	Attach(q *sendqueue.Queue, e Events, maxMessage int)
	// Discard reads and drops input after Next has failed, until the peer closes, CloseGrace
	// is over or MaxAfterEnd is reached. Closing a socket with unread input would reset it, and
	// the last frames might not arrive.
	Discard()
	// Release frees what the transport holds.
	Release()
}

// Reader returns the messages of a peer. One goroutine at a time calls its methods, except for
// Interrupt.
type Reader interface {
	// Next appends the next message to buf, which it owns until it returns. It waits for one.
	// With wait false, or after Interrupt, it may return inbound.ErrQuiet in place of waiting
	// between two messages. Any other error is a *disconnect.CloseError.
	Next(buf []byte, wait bool) (sendqueue.Op, []byte, error)
	// Interrupt makes a Next that waits return inbound.ErrQuiet. It reports false if this
	// transport cannot park. Any goroutine may call it.
	Interrupt() bool
	// Park asks for Events.Wake as soon as there is input, and reports true; until then no
	// goroutine may call Next. It reports false if that is not possible now.
	Park() bool
	// Ahead reports whether more input has arrived than Next has returned. It may report true
	// where that is not known.
	Ahead() bool
	// Unseen returns how many bytes of a message may have arrived before Events.Alive is told.
	Unseen() int
}

// Events are what a transport tells the connection that uses it. Only Alive may block; the
// goroutine in Next calls it.
type Events interface {
	Alive(n int) // n bytes arrived
	// Waiting reports that Next is about to wait, whether it waits inside a message or a frame,
	// and how many bytes of memory the incomplete message takes.
	Waiting(inside bool, held int)
	Ping() bool          // a ping arrived; false means that there were too many
	Pong(payload string) // a pong arrived
	Wake()               // there is input, after Park
}

// tooBig is the error of a message over the limit. The scanner uses the same words where a frame
// announces its size.
func tooBig() *disconnect.CloseError {
	return &disconnect.CloseError{
		Cause: disconnect.CauseProtocol, Code: disconnect.CloseTooBig, Reason: "message is too large",
	}
}

// failed turns an error of reading into the error of the connection.
func failed(err error) *disconnect.CloseError {
	if wrong, ok := errors.AsType[*inbound.Violation](err); ok {
		return &disconnect.CloseError{
			Cause: disconnect.CauseProtocol, Code: disconnect.CloseCode(wrong.Code),
			Reason: wrong.Reason, Err: err,
		}
	}
	_, network := errors.AsType[net.Error](err)
	_, system := errors.AsType[syscall.Errno](err)
	if network || system || errors.Is(err, io.EOF) || errors.Is(err, inbound.ErrTorn) ||
		errors.Is(err, net.ErrClosed) {
		return &disconnect.CloseError{
			Cause: disconnect.CauseLost, Code: disconnect.CloseLost, Err: err,
		}
	}
	return protocolError("protocol error", err)
}

// closedByPeer returns the error of a connection whose peer has sent a close frame, valid or not.
func closedByPeer(code disconnect.CloseCode, reason string, valid bool) *disconnect.CloseError {
	switch {
	case !valid:
		return protocolError("invalid close frame", nil)
	case !utf8.ValidString(reason):
		return &disconnect.CloseError{
			Cause: disconnect.CauseProtocol, Code: disconnect.CloseText,
			Reason: "reason is not UTF-8",
		}
	}
	return &disconnect.CloseError{Cause: disconnect.CauseClient, Code: code, Reason: reason}
}

func protocolError(reason string, err error) *disconnect.CloseError {
	return &disconnect.CloseError{
		Cause: disconnect.CauseProtocol, Code: disconnect.CloseProtocol, Reason: reason, Err: err,
	}
}
