package realtime

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/transport"
)

// Inbound is a message from a client, before it goes anywhere.
type Inbound struct {
	// Text is what a plain client wrote. It is empty for a client of realtime.v1, whose
	// message can be any JSON.
	Text string
	// Method is what a client calls, and empty for a message. What it calls it with is
	// Message.Content, and its answer is what the handler returns.
	Method string
	// Target is whom the client means. A client's room is resolved already.
	Target Target
	// Message is what the others are to get: Text with its sender, as [Chat] makes it, or
	// what the client of realtime.v1 sent, with its sender.
	Message Message
}

// Handlers of events. They run with no lock held and may call everything. Those of
// one connection run one at a time, in order, and ctx ends with the connection. A
// panic ends the connection with code 1011 and is logged.
type (
	// ConnectFunc decides whether a connection opens. It may join rooms and send: the
	// client gets that behind its welcome. Nobody has been told of the connection
	// yet, and if it returns an error nobody ever is: the connection is closed with
	// code 4403, or with the code and reason of a *CloseError. For the client the
	// connection opens when it has returned.
	ConnectFunc func(ctx context.Context, c *Conn) error

	// MessageFunc gets each message that a client sends and that Options.Authorize
	// allowed, in place of the default, which is Send(ctx, in.Target, in.Message).
	// An error is counted; a plain client is not told, and one of realtime.v1 gets it as
	// [Error] says.
	//
	// While it runs, nothing else of this connection is handled. After five seconds,
	// or when it calls Conn.Ping, the connection is read on, so that pings are
	// answered and the end is seen: 64 messages are kept for later, then reading
	// stops.
	MessageFunc func(ctx context.Context, c *Conn, in Inbound) error

	// Handler gets each call of a client of realtime.v1, and returns the answer: any JSON,
	// empty for none. An error is the answer too, see [Error]. See [Handle] for one with
	// types. For the rest it is like MessageFunc.
	Handler func(ctx context.Context, c *Conn, in Inbound) (json.RawMessage, error)

	// DisconnectFunc is called once for each connection for which OnConnect returned
	// nil, after its last handler, when everybody has been told. ctx has the values of
	// the connection's context and does not end.
	DisconnectFunc func(ctx context.Context, c *Conn, why *CloseError)
)

// guard runs code of the application. A panic becomes an error, and like the end of the
// goroutine by runtime.Goexit it ends the connection.
func (c *Conn) guard(f func() error) (err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		p := recover() // nil after Goexit
		c.m.counters.Add(metrics.Panics, 1)
		c.m.notes.Log(c.session.Context(), slog.LevelError, c.source(), "realtime: panic in a handler",
			slog.String("conn", c.id), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		err = fmt.Errorf("realtime: panic: %v", p)
		c.session.End(&CloseError{
			Cause: CausePanic, Code: CloseInternal, Reason: "internal error", Err: err,
		}, transport.CloseGrace)
	}()
	err = f()
	returned = true
	return err
}
