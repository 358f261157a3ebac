package realtime

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/realtime-go/realtime/internal/names"
	"github.com/realtime-go/realtime/internal/sendqueue"
	"github.com/realtime-go/realtime/internal/session"
	"github.com/realtime-go/realtime/internal/wire"
)

// Ping sends a ping and returns how long the peer took to answer. It waits until
// ctx or the connection ends, and returns the context's cause then. It may be called
// inside a handler of the same connection: what comes in meanwhile waits, and beyond 64 messages or
// 256 KiB Ping returns ErrBacklog. In OnConnect it returns ErrNotOpen: nothing is written to the
// peer before that has returned.
func (c *Conn) Ping(ctx context.Context) (time.Duration, error) {
	if c.opening() {
		return 0, ErrNotOpen
	}
	return c.session.Ping(ctx)
}

// Call asks the client for something by name, with any JSON or none, and returns what it
// answers: JSON, or nil if that is empty. It waits until ctx or the connection ends, and returns
// the context's cause then; nothing else limits how long a client takes. It may be called
// inside a handler of the same connection: what comes in meanwhile waits, and beyond 64 messages or
// 256 KiB Call returns ErrBacklog. It keeps no reference to content. See the function [Call] for
// one with types.
//
// It returns a *ClientError if the client answers with an error, as our clients do with the code
// "busy" beyond 16 calls at a time in Go and 100 in JavaScript, ErrPlain for a client that does
// not speak realtime.v1, ErrNotOpen in OnConnect, ErrName for an invalid method, ErrMessage for
// content that is not JSON, ErrTooLarge, and ErrClosed if the connection has ended. A client whose
// queue is full is ended with code 4300, whatever Options.Slow is.
func (c *Conn) Call(ctx context.Context, method string, content json.RawMessage) (json.RawMessage, error) {
	if err := c.checkCall(method, content); err != nil {
		return nil, err
	}
	answer, err := c.session.Call(ctx, func(number uint64) {
		id := strconv.AppendUint(nil, number, 10)
		buf := wire.AppendCall(sendqueue.Grow(wire.Overhead+len(method)+len(content)), id, method, content)
		c.tell(wire.Announced(sendqueue.Seal(sendqueue.OpText, buf)))
	})
	if e, ok := err.(*session.ReplyError); ok {
		err = (*ClientError)(e)
	}
	return answer, err
}

func (c *Conn) checkCall(method string, content json.RawMessage) error {
	switch {
	case c.proto != wire.ProtoV1:
		return ErrPlain
	case c.session.Ended():
		return ErrClosed
	case c.opening():
		return ErrNotOpen
	}
	if err := names.CheckMethod(method); err != nil {
		return err
	}
	return checkMessage(&Message{Content: content}, c.m.opts.QueueBytes/2)
}

// Call is [Conn.Call] with types: req is sent as what encoding/json makes of it, nil as
// nothing, and the answer is decoded into a Res. It returns an error of encoding/json if
// either fails.
func Call[Res any](ctx context.Context, c *Conn, method string, req any) (res Res, err error) {
	var content json.RawMessage
	if req != nil {
		if content, err = json.Marshal(req); err != nil {
			return res, fmt.Errorf("realtime: call of %s: %w", method, err)
		}
	}
	content, err = c.Call(ctx, method, content)
	if err != nil || content == nil {
		return res, err
	}
	if err = json.Unmarshal(content, &res); err != nil {
		err = fmt.Errorf("realtime: answer to %s: %w", method, err)
	}
	return res, err
}
