package realtime

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"

	"github.com/realtime-go/realtime/broker"
	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/names"
	"github.com/realtime-go/realtime/internal/transport"
	"github.com/realtime-go/realtime/internal/wire"
)

// Inbound is a message or a call from a client.
type Inbound struct {
	// Text is the text of a plain client. It is empty for a client of realtime.v1, whose message
	// can be any JSON.
	Text string
	// Method is the method of a call. The argument of the call is Message.Content or
	// Message.Binary, and its result is the result of the handler. Empty: Inbound is a message.
	Method string
	// Target is the target of a message. For a plain client's message to its room, it is that room.
	// The zero Target is the server itself: a message to it is for the handler, and the library
	// sends it to nobody. Plain clients cannot send one.
	Target Target
	// Message is the message for the receivers, with its sender and the time when it arrived: Text
	// as [Chat] encodes it, or the message of a client of realtime.v1. That of a call has only a
	// Sender, a Conn, and Content or Binary.
	Message Message

	sent *Result // where Relay leaves its result; nil if the client wants no receipt
}

// Handlers of events. They run with no lock held and may call all functions of this package. The
// handlers of one connection run one at a time, in order. ctx ends with the connection. A panic
// ends the connection with code 1011 and is logged.
type (
	// ConnectFunc decides whether a connection opens. It may join rooms and send messages: the
	// client receives them after its welcome. Nobody has been told of the connection yet. If
	// ConnectFunc returns an error, nobody is told, and the connection is closed with code 4403,
	// with the code and reason of a *CloseError, or with code 1013 if the error matches
	// ErrUnavailable. For the client the connection opens when ConnectFunc has returned.
	ConnectFunc func(ctx context.Context, c *Conn) error

	// Handler handles each message and each call of a client that Options.Authorize allowed. If
	// in.Method is not empty, it is a call, which only clients of realtime.v1 can make. The library
	// does not send a message on: the handler may send in.Message, changed or not, or call [Relay].
	//
	// The result answers a call: nil is no content, a []byte is sent as bytes, a json.RawMessage as
	// it is, and any other value as encoding/json encodes it. So a handler returns a value, and not
	// the []byte that json.Marshal makes of it. A result that cannot be sent is logged, and
	// answered with the code "internal"; one that is too large, with "too_large". The result
	// for a message is ignored. An error is counted. A plain client is not told of it; a client of
	// realtime.v1 is told as described at [Error].
	//
	// While it runs, no other message of this connection is handled. After five seconds, or when it
	// calls Conn.Ping or [Call], the connection continues to be read, so that pings are answered
	// and its end is noticed. Up to 64 messages or 256 KiB are kept for later; then reading stops.
	Handler func(ctx context.Context, c *Conn, in Inbound) (any, error)

	// DisconnectFunc is called once for each connection for which OnConnect returned nil, after the
	// last handler of the connection and after the notices about its end. ctx has the values of the
	// connection's context and does not end.
	DisconnectFunc func(ctx context.Context, c *Conn, why *CloseError)
)

// guard runs code of the application. A panic becomes an error and ends the connection. So does
// runtime.Goexit.
func (c *Conn) guard(f func() error) (err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		p := recover() // nil after Goexit
		c.m.counters.Add(metrics.Panics, 1)
		c.m.log.Log(c.session.Context(), slog.LevelError, c.source(),
			"realtime: panic in a handler", slog.String("conn", c.id),
			slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		err = fmt.Errorf("realtime: panic: %v", p)
		c.session.End(&CloseError{
			Cause: CausePanic, Code: CloseInternal, Reason: "internal error", Err: err,
		}, transport.CloseGrace)
	}()
	err = f()
	returned = true
	return err
}

// Router passes messages and calls of clients to handlers. [On] registers a handler for a type of
// message, [Handle] for a method. The method OnMessage is for [Options]:
//
//	rt := realtime.New(&realtime.Options{OnMessage: r.OnMessage})
//
// A message of a type without a handler is not sent to its target but answered with unknown_event,
// and a call without a handler with unknown_method; see [Router.NotFound]. The zero value is ready.
// A Router must not be changed after New.
type Router struct {
	events, calls map[string]Handler
	notFound      Handler
	middleware    []func(Handler) Handler
}

// Relay is what Options.OnMessage does by default: it sends a message to its target, and returns
// the [Result]. A handler that has checked or changed in may call it. In contrast to
// [Manager.Send], Relay gives a client the receipt that it has asked for, counts the receivers for
// Limits.InboundFanout, answers a message to the server with unknown_event, and answers a call with
// unknown_method.
func Relay(ctx context.Context, c *Conn, in Inbound) (any, error) {
	switch {
	case in.Method != "":
		return nil, noMethod(in.Method)
	case noReceivers((*broker.Target)(&in.Target)):
		return nil, noEvent(in.Message.Type)
	}
	res, err := c.m.Send(ctx, in.Target, in.Message)
	c.session.Bill().Receivers(res.Matched)
	if in.sent != nil {
		*in.sent = res
	}
	return res, err
}

// NotFound sets the handler of all messages and calls that have no handler of their own, often
// [Relay]. It panics if there is one already, or if handle is nil.
func (r *Router) NotFound(handle Handler) {
	if r.notFound != nil || handle == nil {
		panic("realtime: NotFound: two handlers, or nil")
	}
	r.notFound = r.wrap(handle)
}

// Use wraps middleware around all handlers that are registered later. The first middleware is the
// outermost.
func (r *Router) Use(middleware ...func(Handler) Handler) {
	r.middleware = append(r.middleware, middleware...)
}

// On registers a handler for a type of message, whatever its target is: that may also be the
// server, see [Target.IsZero]. The content of a message is decoded into a T by encoding/json; empty
// content is the zero T, and the text of a plain client is a JSON string. A T of type []byte is for
// binary content, and gets it as it is. The library does not send the message on: the handler may
// call [Relay], or send in.Message in another way.
//
// If the content cannot be decoded, the client gets the error bad_request. For a type without a
// handler it gets unknown_event. On panics if clients cannot send typ, if typ has a handler, or if
// handle is nil.
func On[T any](
	r *Router, typ string, handle func(ctx context.Context, c *Conn, in Inbound, content T) error,
) {
	if err := validClientType(typ); err != nil || typ == "" {
		panic(fmt.Sprintf("realtime: On(%q): not a message type that clients can send", typ))
	}
	if handle == nil {
		panic(fmt.Sprintf("realtime: On(%q): nil handler", typ))
	}
	r.add(&r.events, typ, func(ctx context.Context, c *Conn, in Inbound) (any, error) {
		content, err := decodeContent[T](c, in)
		if err != nil {
			return nil, err
		}
		return nil, handle(ctx, c, in, content)
	})
}

// Handle registers a handler for a method that clients call. The content of a call is decoded into
// a Req, and the result of the handler is encoded as the answer, both by encoding/json. A Req of
// type []byte is for binary content, and a result of type []byte is sent as bytes.
//
// If the content cannot be decoded, the client gets the error bad_request. For a method without a
// handler it gets unknown_method. Handle panics if method is not a valid name of at most 64 bytes,
// if method has a handler, or if handle is nil.
func Handle[Req, Res any](
	r *Router, method string, handle func(ctx context.Context, c *Conn, req Req) (Res, error),
) {
	if err := names.CheckMethod(method); err != nil {
		panic(fmt.Sprintf("realtime: Handle(%q): %v", method, err))
	}
	if handle == nil {
		panic(fmt.Sprintf("realtime: Handle(%q): nil handler", method))
	}
	h := func(ctx context.Context, c *Conn, in Inbound) (any, error) {
		req, err := decodeContent[Req](c, in)
		if err != nil {
			return nil, err
		}
		return handle(ctx, c, req)
	}
	r.add(&r.calls, method, h)
}

func (r *Router) add(to *map[string]Handler, name string, h Handler) {
	if (*to)[name] != nil {
		panic(fmt.Sprintf("realtime: two handlers for %q", name))
	}
	if *to == nil {
		*to = make(map[string]Handler)
	}
	(*to)[name] = r.wrap(h)
}

func (r *Router) wrap(h Handler) Handler {
	for _, wrap := range slices.Backward(r.middleware) {
		h = wrap(h)
	}
	return h
}

// decodeContent decodes the content of a message or of a call. Empty content is the zero T. The
// content of a plain client's message is its text.
func decodeContent[T any](c *Conn, in Inbound) (content T, err error) {
	raw := wire.Content{JSON: in.Message.Content, Binary: in.Message.Binary}
	if c.proto == wire.ProtoPlain {
		raw = wire.Content{JSON: wire.AppendString(nil, in.Text)}
	}
	content, err = wire.Decode[T](raw)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field := cmp.Or(wrong.Field, "it")
		message := fmt.Sprintf("content: %s cannot be a JSON %s", field, wrong.Value)
		return content, &Error{Code: wire.CodeBadRequest, Message: message}
	}
	if errors.Is(err, wire.ErrBytes) || errors.Is(err, wire.ErrJSON) {
		return content, &Error{Code: wire.CodeBadRequest, Message: "content: " + err.Error()}
	}
	if err != nil { // an error of a method of T, whose text is not for the client
		return content, &Error{Code: wire.CodeBadRequest, Message: "content: not as it should be"}
	}
	return content, nil
}

// OnMessage is an Options.OnMessage.
func (r *Router) OnMessage(ctx context.Context, c *Conn, in Inbound) (any, error) {
	h := r.events[in.Message.Type]
	if in.Method != "" {
		h = r.calls[in.Method]
	}
	if h == nil {
		h = r.notFound
	}
	switch {
	case h != nil:
		return h(ctx, c, in)
	case in.Method != "":
		return nil, noMethod(in.Method)
	default:
		return nil, noEvent(in.Message.Type)
	}
}

func noEvent(typ string) *Error {
	return &Error{Code: wire.CodeNoEvent, Message: fmt.Sprintf("unknown event %q", typ)}
}

func noMethod(name string) *Error {
	return &Error{Code: wire.CodeNoMethod, Message: fmt.Sprintf("unknown method %q", name)}
}
