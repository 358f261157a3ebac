package client

import (
	"context"
	"encoding/json"

	"github.com/realtime-go/realtime/internal/wire"
)

// Call asks the server to run a method. Content is JSON, or nil for none. Call returns the server's
// answer: JSON that the caller owns, or nil if the answer is empty. It keeps no reference to
// content. See the function [Call] for a typed version.
//
// It waits for a connection if there is none, and for the answer, until ctx or the client ends. If
// ctx ends, it returns the cause of ctx.
//
// It returns a *realtime.Error if the server answers with one, and [ErrDisconnected] if the
// connection ends before the answer, because a call is never repeated. It returns
// realtime.ErrInvalidName or realtime.ErrInvalidMessage if the method or the content cannot be
// sent, realtime.ErrTooLarge if the request is larger than the server accepts, [ErrFull] if too
// many requests are pending, and an error that matches realtime.ErrClosed after the client has
// ended.
func (c *Client) Call(
	ctx context.Context, method string, content json.RawMessage,
) (json.RawMessage, error) {
	if err := validWord(method); err != nil {
		return nil, err
	}
	return c.request(ctx, outgoing{Type: wire.FrameCall, Method: method, Content: content}, false, nil)
}

// Call is [Client.Call] with types. It encodes req with encoding/json, sends no content if req is
// nil, and decodes the answer into a Res. It returns an error of encoding/json if encoding or
// decoding fails.
func Call[Res any](ctx context.Context, c *Client, method string, req any) (res Res, err error) {
	return wire.TypedCall[Res](method, req, func(content json.RawMessage) (json.RawMessage, error) {
		return c.Call(ctx, method, content)
	})
}
