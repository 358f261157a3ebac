package client

import (
	"context"
	"encoding/json"
	"fmt"
)

// Call asks the server for something by name, with any JSON or none, and returns what it answers:
// JSON that the caller owns, or nil if that is empty. While there is no connection it waits for
// one. It waits until ctx or the client ends, and returns the cause of ctx then. It keeps no
// reference to content. See the function [Call] for one with types.
//
// It returns a *realtime.Error if the server answers with one, [ErrDisconnected] if the connection
// ends before the answer, as a call is never repeated, realtime.ErrName and realtime.ErrMessage for
// what cannot be sent, realtime.ErrTooLarge for what the server would not take, [ErrFull] if too
// much waits already, and what matches realtime.ErrClosed after the end.
func (c *Client) Call(ctx context.Context, method string, content json.RawMessage) (json.RawMessage, error) {
	if err := validWord(method); err != nil {
		return nil, err
	}
	return c.ask(ctx, outgoing{Type: "call", Method: method, Content: content}, false, nil)
}

// Call is [Client.Call] with types: req is sent as what encoding/json makes of it, nil as nothing,
// and the answer is decoded into a Res. It returns an error of encoding/json if either fails.
func Call[Res any](ctx context.Context, c *Client, method string, req any) (res Res, err error) {
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
