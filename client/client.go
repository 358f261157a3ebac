package client

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"github.com/realtime-go/realtime"
	"github.com/realtime-go/realtime/internal/wire"
)

// Client is a program's connection to a server. It lasts until it is closed and uses as many
// network connections as it needs, one after the other. All methods are safe for concurrent use.
type Client struct {
	session *session
	cancel  context.CancelCauseFunc
}

// Dial connects to a server. The URL has the scheme ws, wss, http or https, for example
// "wss://example.com/ws". Nil options are the default ones. Call [Client.Close] when the client is
// no longer needed.
//
// Dial waits for the server's welcome, and repeats an attempt that failed for a temporary reason,
// until ctx ends. After Dial has returned, the end of ctx has no effect on the client. The values
// of ctx stay available in the contexts that functions of opts receive. So ctx must not be the
// context of an HTTP request, which routers reuse for other requests.
//
// It returns a *[DialError] or a *[realtime.CloseError] at once if the server tells the client not
// to reconnect. If ctx ends first, the error matches the cause of ctx and the error of the last
// attempt, if there was one.
func Dial(ctx context.Context, url string, opts *DialOptions) (*Client, error) {
	if err := checkURL(url); err != nil {
		return nil, err
	}
	s := newSession(url, opts)
	clientCtx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	c := &Client{session: s, cancel: cancel}
	go s.run(clientCtx)
	select {
	case <-s.opened:
		return c, nil
	case <-s.done:
		return nil, s.lastErr
	case <-ctx.Done():
		_ = c.Close()
		if s.lastErr == nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w: %w", context.Cause(ctx), s.lastErr)
	}
}

// Close ends the client with a closing handshake. Pending requests return realtime.ErrClosed, and
// [Client.Messages] ends after the messages that have been received.
//
// Close waits for everything that the client started: for the server, one second at most, and for
// the functions of DialOptions that are running, whose contexts end first. It waits for Token one
// second at most, so Token may call Close. Close may be called more than once. It returns nil.
func (c *Client) Close() error {
	c.cancel(realtime.ErrClosed)
	<-c.session.done
	return nil
}

// Messages returns the stream of messages and notices that the server sends. The loop waits for
// each of them. Between two messages the stream yields an error with a zero Message if one of these
// events has happened:
//
//   - *[GapError]: messages may be missing. After a reconnect it is yielded once the rooms have
//     been joined again, so state that the application then reads from elsewhere is complete
//     together with the messages that follow.
//   - *[RoomError]: the server refused to let the client join a room again, or removed it from a
//     room that it had joined. If Member is true, it refused something else for a room.
//
// If the application keeps inboxes, a message from the user's inbox is acknowledged when the loop
// asks for the next one. If the loop ends at such a message, the message is acknowledged when
// another loop or [Client.Receive] continues. A message that is not acknowledged is delivered
// again, to this client or to the user's next one.
//
// When the client has ended and everything that it received has been yielded, the last error is
// yielded. It matches realtime.ErrClosed, and contains the *realtime.CloseError or *[DialError]
// that says why the client must not reconnect. After Close it is realtime.ErrClosed itself.
//
// The rest of the client does not wait for the loop, so the loop may call any method. If the loop
// is slower than the messages arrive, DialOptions.QueueMessages of them wait for it. After that,
// kept messages are fetched again later, and others are dropped, newest first. After a loop has
// ended, another call continues the stream. If several loops run, each receives a part of the
// stream.
func (c *Client) Messages() iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		inbox := c.session.inbox
		inbox.resume()
		var it item
		defer func() { inbox.pause(&it.msg) }()
		for last := false; !last; inbox.markProcessed(&it.msg) {
			it, last = c.session.stream.next(context.Background())
			if !yield(it.msg, it.err) {
				return
			}
		}
	}
}

// Receive returns the message or error that [Client.Messages] would yield next. It waits until ctx
// ends and then returns the cause of ctx. It returns what has already been received even if ctx has
// ended. A call of Receive acknowledges the message that the previous call returned.
func (c *Client) Receive(ctx context.Context) (Message, error) {
	c.session.inbox.resume()
	it, _ := c.session.stream.next(ctx)
	c.session.inbox.pause(&it.msg)
	return it.msg, it.err
}

// Reconnect tries to connect now, for example when the network is available again. It ends a wait,
// also one that the server has asked for. It starts an attempt that is in progress again, with a
// new token, but not twice within a second. If there is a connection, it sends a ping and closes
// the connection if there is no sign of life within 5 s. It does nothing after the client has
// ended; then only [Dial] makes a new client. It does not block, and may be called anywhere, also
// in functions of DialOptions.
func (c *Client) Reconnect() { c.session.reconnect.trigger() }

// Ping returns how long the server takes to answer. When it returns, the client has received
// everything that the server had for it before the answer. Ping waits until ctx or the client ends,
// over reconnects, and then returns the cause of ctx or an error that matches realtime.ErrClosed.
func (c *Client) Ping(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	_, err := c.request(ctx, outgoing{Type: wire.FramePing}, true, nil)
	return time.Since(start), err
}

// request sends a request and waits for the answer until ctx or the client ends. For repeat and
// settle see the type request.
func (c *Client) request(
	ctx context.Context, o outgoing, repeat bool, settle func(result),
) (json.RawMessage, error) {
	content, err := c.requestLimited(ctx, o, repeat, settle, nil)
	return content.JSON, err
}

// requestLimited is request for at most cap(slots) requests at a time. Nil slots set no limit.
func (c *Client) requestLimited(
	ctx context.Context, o outgoing, repeat bool, settle func(result), slots chan struct{},
) (none wire.Content, err error) {
	if ctx.Err() != nil {
		return none, context.Cause(ctx)
	}
	q := c.session.requests
	r, err := q.prepare(o, repeat, settle)
	if err != nil {
		return none, err
	}
	if err := q.reserve(r); err != nil {
		return none, err
	}
	defer q.release(r)
	if slots != nil {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return none, context.Cause(ctx)
		}
		r.slots = slots
	}
	if err := q.add(r); err != nil {
		return none, err
	}
	select {
	case res := <-r.result:
		return wire.Content{JSON: res.content, Binary: res.binary}, res.err
	case <-ctx.Done():
		q.cancel(r)
		return none, context.Cause(ctx)
	}
}
