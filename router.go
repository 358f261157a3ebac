package realtime

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/realtime-go/realtime/internal/metrics"
	"github.com/realtime-go/realtime/internal/names"
	"github.com/realtime-go/realtime/internal/transport"
	"github.com/realtime-go/realtime/internal/wire"
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
		c.m.log.Log(c.session.Context(), slog.LevelError, c.source(), "realtime: panic in a handler",
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

// Router gives messages and calls of clients to handlers, by the type of the message or the
// method of the call: see [On] and [Handle]. It is for [Options]:
//
//	rt := realtime.New(&realtime.Options{OnMessage: r.OnMessage, OnCall: r.OnCall})
//
// The zero value is ready. Register everything before New: after that it must not change.
type Router struct {
	events, calls map[string]Handler
	around        []func(Handler) Handler
}

// Use puts middleware around all handlers that are registered after it. The first one is the
// outermost. For a message Inbound.Method is empty, and what the handler returns is dropped.
func (r *Router) Use(middleware ...func(Handler) Handler) {
	r.around = append(r.around, middleware...)
}

// On registers a handler of messages of a type, whose content is decoded into a T. The
// message goes no further by itself: the handler sends it on, as in.Message or changed, or it
// does not. Binary content is in in.Message, and content the zero T. A plain client's message has
// its text as content, a JSON string. Content that is no T is answered with the error bad_request,
// and a type without a handler with unknown_event. It panics if typ is not one that clients can
// send, or has a handler.
func On[T any](r *Router, typ string, handle func(ctx context.Context, c *Conn, in Inbound, content T) error) {
	if err := validClientType(typ); err != nil || typ == "" {
		panic(fmt.Sprintf("realtime: On(%q): not a message type that clients can send", typ))
	}
	if handle == nil {
		panic(fmt.Sprintf("realtime: On(%q): nil handler", typ))
	}
	r.add(&r.events, typ, func(ctx context.Context, c *Conn, in Inbound) (json.RawMessage, error) {
		content, err := decodeContent[T](c, in)
		if err != nil {
			return nil, err
		}
		return nil, handle(ctx, c, in, content)
	})
}

// Handle registers a handler of calls of a method. What the client sends is decoded into a
// Req, and what the handler returns is encoded for it, both by encoding/json. A Req that is
// none is answered with the error bad_request, and a method without a handler with
// unknown_method. It panics if method is not a valid name of at most 64 bytes, or has a
// handler.
func Handle[Req, Res any](r *Router, method string, handle func(ctx context.Context, c *Conn, req Req) (Res, error)) {
	if err := names.CheckMethod(method); err != nil {
		panic(fmt.Sprintf("realtime: Handle(%q): %v", method, err))
	}
	if handle == nil {
		panic(fmt.Sprintf("realtime: Handle(%q): nil handler", method))
	}
	r.add(&r.calls, method, func(ctx context.Context, c *Conn, in Inbound) (json.RawMessage, error) {
		req, err := decodeContent[Req](c, in)
		if err != nil {
			return nil, err
		}
		res, err := handle(ctx, c, req)
		if err != nil {
			return nil, err
		}
		return json.Marshal(res)
	})
}

func (r *Router) add(to *map[string]Handler, name string, h Handler) {
	if (*to)[name] != nil {
		panic(fmt.Sprintf("realtime: two handlers for %q", name))
	}
	for i := len(r.around) - 1; i >= 0; i-- {
		h = r.around[i](h)
	}
	if *to == nil {
		*to = make(map[string]Handler)
	}
	(*to)[name] = h
}

// decodeContent decodes what a client sent. Nothing is the zero T, and a plain client's chat its
// text.
func decodeContent[T any](c *Conn, in Inbound) (content T, err error) {
	raw := in.Message.Content
	if c.proto == wire.ProtoPlain {
		raw = wire.AppendString(nil, in.Text)
	}
	if len(raw) == 0 {
		return content, nil
	}
	err = json.Unmarshal(raw, &content)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		message := fmt.Sprintf("content: %s cannot be a JSON %s", cmp.Or(wrong.Field, "it"), wrong.Value)
		return content, &Error{wire.CodeBadRequest, message}
	}
	if err != nil { // in the words of the application
		return content, &Error{wire.CodeBadRequest, "content: not as it should be"}
	}
	return content, nil
}

// OnMessage is an Options.OnMessage.
func (r *Router) OnMessage(ctx context.Context, c *Conn, in Inbound) error {
	h := r.events[in.Message.Type]
	if h == nil {
		return &Error{wire.CodeNoEvent, fmt.Sprintf("unknown event %q", in.Message.Type)}
	}
	_, err := h(ctx, c, in)
	return err
}

// OnCall is an Options.OnCall.
func (r *Router) OnCall(ctx context.Context, c *Conn, in Inbound) (json.RawMessage, error) {
	h := r.calls[in.Method]
	if h == nil {
		return nil, noMethod(in.Method)
	}
	return h(ctx, c, in)
}

func noMethod(name string) *Error {
	return &Error{wire.CodeNoMethod, fmt.Sprintf("unknown method %q", name)}
}
