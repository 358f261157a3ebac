package client

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"github.com/realtime-go/realtime"
)

// Client is a program's place on a server, over as many connections as it takes. All methods are
// safe for concurrent use.
type Client struct {
	session *session
	cancel  context.CancelCauseFunc
}

// Dial connects to a server: to "wss://example.com/ws", or ws, http or https. Nil options are the
// default ones. It waits for the server's welcome, and tries again after what passes, until ctx
// ends. From then on ctx has no meaning, but its values are those of the contexts that
// functions of opts are given: so it must not be the context of a request, which routers use again
// for others. Call [Client.Close] when you are done.
//
// It returns a *[DialError] or a *[realtime.CloseError] at once if the server says to stay away. If
// ctx ends first, the error matches its cause, and the error of the last attempt if there is one.
func Dial(ctx context.Context, url string, opts *DialOptions) (*Client, error) {
	if err := checkURL(url); err != nil {
		return nil, err
	}
	s := newSession(url, opts)
	life, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	c := &Client{session: s, cancel: cancel}
	go s.run(life)
	select {
	case <-s.opened:
		return c, nil
	case <-s.done:
		return nil, s.why
	case <-ctx.Done():
		_ = c.Close()
		if s.why == nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w: %w", context.Cause(ctx), s.why)
	}
}

// Close says goodbye and ends the client: what waits for an answer gets realtime.ErrClosed, and
// [Client.Messages] ends behind what has been received. It waits for everything that the client
// started, a second for the server, and for functions of DialOptions that run, whose contexts end
// first; for Token a second, so that this may close the client. It may be called again. It returns
// nil.
func (c *Client) Close() error {
	c.cancel(realtime.ErrClosed)
	<-c.session.done
	return nil
}

// Messages is the stream of what comes unasked: messages and notices. It waits for each. Between
// two messages there is an error, with a zero Message, where something has happened:
//
//   - *[GapError]: messages may be missing. After a reconnect the rooms have been joined again when
//     it is yielded, so what the application reads elsewhere now, and what follows, is
//     everything.
//   - *[RoomError]: the server did not let the client into a room again, or took it out of one that
//     it has joined.
//
// A message of the user's inbox, if the application has such, is acknowledged when the loop asks
// for the next one; one at which the loop was left, when a loop or [Client.Receive] goes on. One
// that is not acknowledged comes again, to this client or the next one of the user.
//
// When the client has ended, and what it has received was yielded, the last error is yielded: it
// matches realtime.ErrClosed, and says as a *realtime.CloseError or *[DialError] why the client is
// to stay away. After Close it is realtime.ErrClosed itself.
//
// The rest of the client does not wait for the loop, so it may call anything. A loop that is
// slower than the messages has DialOptions.QueueMessages of them wait for it, beyond which the
// newest are dropped, or got again later if they are kept. One that was left can be gone on with by
// another call. Of several loops each gets a part of the stream.
func (c *Client) Messages() iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		inbox := c.session.inbox
		inbox.resume()
		var it item
		defer func() { inbox.leave(&it.msg) }()
		for last := false; !last; inbox.took(&it.msg) {
			it, last = c.session.stream.next(context.Background())
			if !yield(it.msg, it.err) {
				return
			}
		}
	}
}

// Receive returns what [Client.Messages] would yield next. It waits for that until ctx ends, and
// returns its cause then; what has been received already it returns in any case. To call it again
// says that the application is done with what it has returned before.
func (c *Client) Receive(ctx context.Context) (Message, error) {
	c.session.inbox.resume()
	it, _ := c.session.stream.next(ctx)
	c.session.inbox.leave(&it.msg)
	return it.msg, it.err
}

// Reconnect tries to connect now: when the network is back, for example. It ends a wait, also one
// that the server has asked for. An attempt that is under way begins anew, with another token, but
// not twice within a second. Of a connection it asks for a sign of life, and gives it up if none
// comes within 5 s. It does nothing after the end, from which there is no way back but [Dial]. It
// does not block, and may be called anywhere, in functions of DialOptions too.
func (c *Client) Reconnect() { c.session.nudge.now() }

// Ping returns how long the server takes to answer. When it returns, everything that the server
// had for this client before has been received. It waits until ctx or the client ends, also for
// another connection, and returns the cause of ctx, or what matches realtime.ErrClosed.
func (c *Client) Ping(ctx context.Context) (time.Duration, error) {
	start := time.Now()
	_, err := c.ask(ctx, outgoing{Type: "ping"}, true, nil)
	return time.Since(start), err
}

// ask sends a request and waits for the answer, until ctx or the client ends. See request for
// again and settle.
func (c *Client) ask(
	ctx context.Context, o outgoing, again bool, settle func(result),
) (json.RawMessage, error) {
	return c.askInTurn(ctx, o, again, settle, nil)
}

// askInTurn is ask of no more at a time than turn has room for, if it is not nil.
func (c *Client) askInTurn(
	ctx context.Context, o outgoing, again bool, settle func(result), turn chan struct{},
) (json.RawMessage, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	q := c.session.requests
	r, err := q.prepare(o, again, settle)
	if err != nil {
		return nil, err
	}
	if err := q.admit(r); err != nil {
		return nil, err
	}
	defer q.dismiss(r)
	if turn != nil {
		select {
		case turn <- struct{}{}:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		defer func() { <-turn }()
	}
	if err := q.add(r); err != nil {
		return nil, err
	}
	select {
	case res := <-r.result:
		return res.content, res.err
	case <-ctx.Done():
		q.forget(r)
		return nil, context.Cause(ctx)
	}
}
