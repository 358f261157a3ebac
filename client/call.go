package client

import (
	"context"

	"github.com/realtime-go/realtime/internal/wire"
)

// Call asks the server to run a method, and returns its answer. A nil req is no content, a []byte
// is sent as bytes, a json.RawMessage as it is, and any other value as encoding/json encodes it.
// The answer is decoded in the same way: a Res of type []byte is for an answer in bytes, a
// json.RawMessage for any JSON. If the answer has no content, Call returns the zero Res. Call keeps
// no reference to req.
//
// It waits for a connection if there is none, and for the answer, until ctx or the client ends. If
// ctx ends, it returns the cause of ctx.
//
// It returns a *realtime.Error if the server answers with one, also with the code "unavailable", and
// [ErrDisconnected] if the connection ends before the answer, because a call is never repeated. It
// returns realtime.ErrInvalidName or realtime.ErrInvalidMessage if the method or a json.RawMessage cannot
// be sent, realtime.ErrTooLarge if the request is larger than the server accepts, [ErrFull] if too
// many requests are pending, and an error that matches realtime.ErrClosed after the client has
// ended. Any other error says that req cannot be encoded, or that the answer is not for a Res.
func Call[Res any](ctx context.Context, c *Client, method string, req any) (res Res, err error) {
	return wire.TypedCall[Res](method, req, func(content wire.Content) (wire.Content, error) {
		return c.call(ctx, method, content)
	})
}

func (c *Client) call(
	ctx context.Context, method string, content wire.Content,
) (wire.Content, error) {
	if err := validWord(method); err != nil {
		return wire.Content{}, err
	}
	o := outgoing{
		Type: wire.FrameCall, Method: method, Content: content.JSON, binary: content.Binary,
	}
	return c.requestLimited(ctx, o, false, nil, nil)
}
